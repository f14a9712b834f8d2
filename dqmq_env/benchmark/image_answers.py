"""How single images do at some assignments, and what can be seen of each of them beforehand.

:mod:`dqmq_env.benchmark.image_value` looks for a rule in the answers of :func:`collect`. Where a
network has too many assignments for a table, :func:`sensitivity_front` proposes those to ask for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dqmq_env.costs import cost_by_name, fraction, layer_table
from dqmq_env.errors import AssignmentError, DataError, NetworkError, SettingError
from dqmq_env.evaluation.batch_pass import BatchPass
from dqmq_env.problem.checks import within
from dqmq_env.problem.fronts import concave_hull
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.progress import progress
from dqmq_env.quality.condition import Condition
from dqmq_env.quality.conditioned import ConditionedImages
from dqmq_env.quantization.assignment import BitAssignment, LayerBits

Ways = Sequence[tuple[LayerBits, ...]]
"""Assignments as bits of the layers in forward order."""


@dataclass(frozen=True, eq=False)
class SplitAnswers:
    """The answers for n images of a split, under C conditions and at A assignments.

    Attributes:
        loss: cross-entropy in nats, shape (C, A, n), float32.
        correct: whether the image is classified correctly, shape (C, A, n), bool.
        descriptor: the quality descriptor of each image, in [0, 1], shape (C, n, 6), float32.
        first: the mean, then the root mean square, of each channel of what the second layer is
            about to receive, shape (C, n, F), float32.
    """

    loss: NDArray[np.float32]
    correct: NDArray[np.bool_]
    descriptor: NDArray[np.float32]
    first: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ImageAnswers:
    """How each image does under C conditions at A assignments.

    Attributes:
        conditions: their names.
        shares: how often each condition occurs, shape (C,), float64; the sum is 1.
        assignments: what may be given to an image.
        costs: of the assignments, as fractions of that at 8 bits, shape (A,).
        search: what a rule is found on.
        test: what it is judged on.
    """

    conditions: tuple[str, ...]
    shares: NDArray[np.float64]
    assignments: tuple[BitAssignment, ...]
    costs: NDArray[np.float64]
    search: SplitAnswers
    test: SplitAnswers


def collect(
    problem: NetworkProblem,
    assignments: Sequence[BitAssignment],
    cost: str,
    images: int | None = None,
    chunk: int = 500,
) -> ImageAnswers:
    """Evaluate all assignments on every image under all conditions of the problem's mixture.

    The features of the first layer's output are those at its widest candidate bits.

    Args:
        problem: gives network, images and conditions; it needs a ``test`` split.
        assignments: what may be given to an image, each once.
        cost: name of the cost that they are priced by.
        images: number of the first images of each split; all when left out.
        chunk: most images that are under way at a time; changes no result.

    Raises:
        SettingError: there is no such cost, or ``chunk`` is below 1.
        AssignmentError: there are no assignments, one comes twice, or does not fit the layers.
        DataError: a split has no images, or fewer than asked for.
        NetworkError: the network has no second layer.
    """
    model = cost_by_name(cost, problem.costs)
    ways = _ways(problem, assignments)
    if chunk < 1:
        raise SettingError(f"chunk: got {chunk}, allowed are 1 and more")
    if len(problem.layers) < 2:
        raise NetworkError("problem: its network has a single layer, allowed are 2 and more")
    counts = []
    for name, source in (("search", problem.search), ("test", problem.test)):
        if not len(source.split):
            raise DataError(f"problem: its {name} split has no images, allowed are 1 and more")
        most = len(source.split)
        counts.append(most if images is None else within("images", images, most))
    mixture = problem.mixture
    with progress(len(mixture.conditions) * sum(counts), "answers", "image") as bar:
        search = _answers(problem, problem.search, counts[0], ways, chunk, bar)
        test = _answers(problem, problem.test, counts[1], ways, chunk, bar)
    return ImageAnswers(
        tuple(map(str, mixture.conditions)),
        np.array(mixture.probabilities),
        tuple(assignments),
        np.array([fraction(model, problem.layers, bits) for bits in assignments]),
        search,
        test,
    )


def sensitivity_front(
    problem: NetworkProblem, cost: str, condition: Condition | str, images: int = 500
) -> list[BitAssignment]:
    """Assignments that are best where each layer adds its own to the loss, by ascending cost.

    What a layer adds is the increase of the mean loss when it alone leaves its widest bits. For a
    multiplier of the cost, each layer by itself takes the bits of least increase + multiplier *
    cost. The result holds every assignment that comes of this over an interval of multipliers from
    0 up: as the multiplier falls, a layer goes along the corners of its lower convex hull of
    increase against cost.

    Args:
        problem: gives layers, candidates and ``search`` images; weights and activations of a layer
            are decided jointly.
        cost: name of the cost.
        condition: what the images go through first.
        images: most images that are looked at, the first of ``search``.

    Raises:
        SettingError: there is no such cost.
        ConditionError: there is no such condition.
        DataError: ``images`` is below 1.
    """
    model = cost_by_name(cost, problem.costs)
    condition = Condition.parse(condition)
    if images < 1:
        raise DataError(f"images: got {images}, allowed are 1 and more")
    options = problem.quantized.options
    tables = layer_table(model, problem.layers, options)
    found = _increases(problem, list(options.values()), condition, images)
    at: dict[str, LayerBits] = {}
    edges: list[tuple[float, str, LayerBits]] = []
    for (name, own), costs, increases in zip(options.items(), tables, found, strict=True):
        hull = concave_hull(costs, -increases)
        prices = -np.diff(increases[hull]) / np.diff(costs[hull])
        # they fall along a hull; where two are equal but for rounding, they must not rise either
        falling = np.minimum.accumulate(prices).tolist()
        edges += [(price, name, own[to]) for price, to in zip(falling, hull[1:], strict=True)]
        at[name] = own[hull[0]]
    edges.sort(key=lambda edge: -edge[0])
    front = [BitAssignment(at)]
    for _, together in groupby(edges, key=lambda edge: edge[0]):
        at |= {name: bits for _, name, bits in together}
        front.append(BitAssignment(at))
    return front


def _ways(problem: NetworkProblem, assignments: Sequence[BitAssignment]) -> Ways:
    if not assignments:
        raise AssignmentError("assignments: got none, allowed are 1 and more")
    if len(set(assignments)) < len(assignments):
        raise AssignmentError("assignments: got one more than once, allowed is each once")
    return [problem.quantized.in_order(bits) for bits in assignments]


@torch.no_grad()
def _answers(
    problem: NetworkProblem,
    source: ConditionedImages,
    count: int,
    ways: Ways,
    chunk: int,
    bar: Any,
) -> SplitAnswers:
    """The answers for the first ``count`` images of a split."""
    conditions = problem.mixture.conditions
    loss = np.empty((len(conditions), len(ways), count), np.float32)
    correct = np.empty(loss.shape, np.bool_)
    descriptor, first = [], []
    for row, condition in enumerate(conditions):
        descriptor.append(source.described_under(condition)[:count].numpy())
        features = []
        for start in range(0, count, chunk):
            part = slice(start, min(start + chunk, count))
            begun, labels = _begin(problem, source, condition, part)
            features.append(_first_features(problem, begun))
            losses, right = _judge(problem, begun, ways, labels)
            loss[row, :, part], correct[row, :, part] = losses.cpu().numpy(), right.cpu().numpy()
            bar.update(len(labels))
        first.append(np.concatenate(features))
    return SplitAnswers(loss, correct, np.stack(descriptor), np.stack(first))


def _begin(
    problem: NetworkProblem, source: ConditionedImages, condition: Condition, part: slice
) -> tuple[BatchPass, Tensor]:
    """The pass of some images up to the first layer, and their labels."""
    device = problem.quantized.layers[0].inner.weight.device
    x = problem.normalize(source.under(condition)[part])
    return problem.walker.start(x.to(device)), source.split.labels[part].to(device)


def _judge(
    problem: NetworkProblem, begun: BatchPass, ways: Ways, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss, float64, and correctness of n images at each way to go on, shapes (ways, n)."""
    ends = problem.walker.descend(begun, ways)
    logits = [ends[way].logits for way in ways]
    losses = [F.cross_entropy(own.double(), labels, reduction="none") for own in logits]
    return torch.stack(losses), torch.stack([own.argmax(1) == labels for own in logits])


def _first_features(problem: NetworkProblem, begun: BatchPass) -> NDArray[np.float32]:
    """Mean and root mean square of the channels that the second layer receives, shape (n, F)."""
    first, second = problem.layers[:2]
    after = problem.walker.advance(begun, problem.quantized.options[first.name][-1])
    features = []
    for x, images in zip(after.activations, after.sizes, strict=True):
        channels_last = x.movedim(second.channel_axis, -1)
        # an image may have become several, one after the other, such as windows
        values = channels_last.reshape(images, -1, channels_last.shape[-1])
        features.append(torch.cat([values.mean(1), values.square().mean(1).sqrt()], 1))
    found: NDArray[np.float32] = torch.cat(features).float().cpu().numpy()
    return found


@torch.no_grad()
def _increases(
    problem: NetworkProblem,
    options: Sequence[Sequence[LayerBits]],
    condition: Condition,
    images: int,
    chunk: int = 100,
) -> list[NDArray[np.float64]]:
    """What each option of each layer adds to the mean loss, all others being at their last."""
    widest = tuple(own[-1] for own in options)
    ways = [
        (*widest[:layer], bits, *widest[layer + 1 :])
        for layer, own in enumerate(options)
        for bits in own
    ]
    count = min(images, len(problem.search.split))
    total = np.zeros(len(ways))
    with progress(count, "sensitivity", "image") as bar:
        for start in range(0, count, chunk):
            part = slice(start, min(start + chunk, count))
            begun, labels = _begin(problem, problem.search, condition, part)
            total += _judge(problem, begun, ways, labels)[0].sum(1).cpu().numpy()
            bar.update(len(labels))
    means = np.split(total / count, np.cumsum([len(own) for own in options])[:-1])
    return [own - own[-1] for own in means]
