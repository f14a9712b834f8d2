import copy
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dqmq_env.benchmark.image_answers import ImageAnswers, collect, sensitivity_front
from dqmq_env.costs import cost_by_name, layer_table
from dqmq_env.data import ImageData, ImageSplit
from dqmq_env.errors import (
    AssignmentError,
    ConditionError,
    DataError,
    DQMQError,
    NetworkError,
    SettingError,
)
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality import DESCRIPTOR_NAMES
from dqmq_env.quantization.assignment import BitAssignment, LayerBits

MakeProblem = Callable[..., NetworkProblem]
NOISE = "gaussian_noise/3"


def some_assignments(problem: NetworkProblem, count: int = 4) -> list[BitAssignment]:
    """The uniform ones, and others that begin like them."""
    uniform = [problem.uniform(bits) for bits in (2, 4, 8)]
    names = [spec.name for spec in problem.layers]
    rng = np.random.default_rng(0)
    mixed = []
    for _ in range(count):
        base, other = (uniform[place] for place in rng.choice(3, 2, replace=False))
        cut = int(rng.integers(2, len(names) - 1))
        mixed.append(
            BitAssignment({n: (base if names.index(n) < cut else other)[n] for n in names})
        )
    return list(dict.fromkeys([*uniform, *mixed]))


@pytest.fixture(scope="module")
def answers(tiny_problem: NetworkProblem) -> ImageAnswers:
    return collect(tiny_problem, some_assignments(tiny_problem), "bops", chunk=16)


def test_shapes_and_kinds(tiny_problem: NetworkProblem, answers: ImageAnswers) -> None:
    count = len(some_assignments(tiny_problem))
    assert answers.conditions == ("clean", NOISE, "jpeg/5")
    assert answers.shares.tolist() == list(tiny_problem.mixture.probabilities)
    assert answers.assignments == tuple(some_assignments(tiny_problem))
    assert answers.costs.tolist() == [tiny_problem.cost(b)["bops"] for b in answers.assignments]
    channels = tiny_problem.layers[1].in_channels
    for split, images in ((answers.search, 50), (answers.test, 40)):
        assert split.loss.shape == split.correct.shape == (3, count, images)
        assert split.descriptor.shape == (3, images, len(DESCRIPTOR_NAMES))
        assert split.first.shape == (3, images, 2 * channels)
        kinds = [a.dtype for a in (split.loss, split.descriptor, split.first)]
        assert kinds == [np.float32] * 3
        assert split.correct.dtype == np.bool_


def test_means_are_what_the_problem_answers(
    tiny_problem: NetworkProblem, answers: ImageAnswers
) -> None:
    for name, split in (("search", answers.search), ("test", answers.test)):
        for row, condition in enumerate(answers.conditions):
            for place, assignment in enumerate(answers.assignments):
                outcome = tiny_problem.evaluate(assignment, condition, name)
                assert split.correct[row, place].mean() == outcome.accuracy[0]
                mean = split.loss[row, place].astype(np.float64).mean()
                assert mean == pytest.approx(outcome.loss[0], rel=1e-6)


def test_chunks_change_nothing(tiny_problem: NetworkProblem, answers: ImageAnswers) -> None:
    whole = collect(tiny_problem, answers.assignments, "bops")
    for one, other in ((whole.search, answers.search), (whole.test, answers.test)):
        assert np.array_equal(one.correct, other.correct)
        assert np.array_equal(one.descriptor, other.descriptor)
        assert np.allclose(one.loss, other.loss, rtol=0, atol=1e-6)
        assert np.allclose(one.first, other.first, rtol=0, atol=1e-6)


def test_fewer_images_are_the_first_ones(
    tiny_problem: NetworkProblem, answers: ImageAnswers
) -> None:
    few = collect(tiny_problem, answers.assignments[1:3], "size", images=13)
    for one, other in ((few.search, answers.search), (few.test, answers.test)):
        assert np.array_equal(one.correct, other.correct[:, 1:3, :13])
        assert np.array_equal(one.descriptor, other.descriptor[:, :13])
        assert np.allclose(one.loss, other.loss[:, 1:3, :13], rtol=0, atol=1e-6)
        assert np.allclose(one.first, other.first[:, :13], rtol=0, atol=1e-6)
    assert few.costs.tolist() == [tiny_problem.cost(b)["size"] for b in few.assignments]


def received(problem: NetworkProblem, assignment: BitAssignment, condition: str) -> Tensor:
    """What the second layer receives in a plain forward pass over ``search``."""
    seen: list[Tensor] = []
    layer = problem.quantized.layers[1]
    with layer.register_forward_pre_hook(lambda _, args: seen.append(args[0])), torch.no_grad():
        problem.quantized(problem.normalize(problem.search.under(condition)), assignment)
    return seen[0]


@pytest.mark.parametrize("first", [8, None])
def test_features_of_the_first_layer(make_tiny_problem: MakeProblem, first: int | None) -> None:
    """At its widest bits, whatever the assignments give it."""
    problem = make_tiny_problem(first=first, conditions=NOISE)
    found = collect(problem, [problem.uniform(2)], "bops").search.first[0]
    x = received(problem, problem.uniform(8), NOISE).double()
    expected = torch.cat([x.mean((2, 3)), x.square().mean((2, 3)).sqrt()], 1)
    assert np.allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)


def make_plain(data: ImageData, *layers: nn.Module, **settings: Any) -> NetworkProblem:
    torch.manual_seed(0)
    return NetworkProblem.over(
        nn.Sequential(nn.Flatten(), *layers).eval(),
        data,
        **{"conditions": "clean", "calibration_images": 40, "bits": (2, 8)} | settings,
    )


def test_features_of_a_linear_layer_are_its_values(tiny_data: ImageData) -> None:
    problem = make_plain(tiny_data, nn.Linear(784, 5), nn.Linear(5, 10), last=None)
    found = collect(problem, [problem.uniform(2), problem.uniform(8)], "size").search.first[0]
    x = received(problem, problem.uniform(8), "clean").numpy()
    assert found.shape == (50, 10)
    assert np.allclose(found, np.hstack([x, np.abs(x)]), rtol=1e-5, atol=1e-6)


def test_gradients_and_the_problem_are_left_alone(tiny_problem: NetworkProblem) -> None:
    before = {name: value.clone() for name, value in tiny_problem.quantized.state_dict().items()}
    collect(tiny_problem, [tiny_problem.uniform(2)], "bops", images=5)
    for name, value in tiny_problem.quantized.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in tiny_problem.quantized.parameters())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"cost": "latency"}, SettingError, "cost: got 'latency'"),
        ({"chunk": 0}, SettingError, "chunk: got 0"),
        ({"images": 0}, DataError, "images: got 0"),
        ({"images": 41}, DataError, "images: got 41, allowed are 1 to 40"),
        ({"assignments": []}, AssignmentError, "assignments: got none"),
        ({"assignments": [BitAssignment({"x": (2, 2)})]}, AssignmentError, "layers without bits"),
    ],
)
def test_wrong_arguments(
    tiny_problem: NetworkProblem, changes: dict[str, Any], error: type[DQMQError], message: str
) -> None:
    arguments = {"assignments": [tiny_problem.uniform(2)], "cost": "bops"} | changes
    with pytest.raises(error, match=message):
        collect(tiny_problem, **arguments)


def test_wrong_assignments(tiny_problem: NetworkProblem) -> None:
    names = [spec.name for spec in tiny_problem.layers]
    with pytest.raises(AssignmentError, match="candidates are"):
        collect(tiny_problem, [BitAssignment.uniform(names, 3)], "bops")
    with pytest.raises(AssignmentError, match="more than once"):
        collect(tiny_problem, [tiny_problem.uniform(2)] * 2, "bops")


def test_wrong_problems(tiny_data: ImageData) -> None:
    single = make_plain(tiny_data, nn.Linear(784, 10))
    with pytest.raises(NetworkError, match="a single layer"):
        collect(single, [single.uniform(8)], "bops")
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.Linear(4, 10)).eval()
    untested = NetworkProblem(
        network,
        train=tiny_data.train,
        search=tiny_data.search,
        mean=tiny_data.mean,
        std=tiny_data.std,
    )
    with pytest.raises(DataError, match="test split has no images"):
        collect(untested, [untested.uniform(8)], "bops")


@pytest.fixture(scope="module")
def agreeable_data(tiny_data: ImageData, tiny_network: nn.Module) -> ImageData:
    """Labelled by the float network, so that fewer bits do harm."""
    normalize = Normalize(tiny_data.mean, tiny_data.std)

    def relabelled(split: ImageSplit) -> ImageSplit:
        with torch.no_grad():
            return ImageSplit(split.images, tiny_network(normalize(split.images)).argmax(1))

    return dataclasses.replace(
        tiny_data,
        train=relabelled(tiny_data.train),
        search=relabelled(tiny_data.search),
        test=relabelled(tiny_data.test),
    )


def make_agreeable(network: nn.Module, data: ImageData, **settings: Any) -> NetworkProblem:
    chosen = {"bits": (2, 4, 8), "batch_size": 20, "calibration_images": 40} | settings
    return NetworkProblem.over(copy.deepcopy(network), data, **chosen)


def increases(problem: NetworkProblem, condition: str) -> list[NDArray[np.float64]]:
    """By separate evaluations."""
    widest = {name: options[-1] for name, options in problem.quantized.options.items()}

    def loss(change: dict[str, LayerBits]) -> float:
        return float(problem.evaluate(BitAssignment(widest | change), condition).loss[0])

    floor = loss({})
    return [
        np.array([loss({name: bits}) - floor for bits in options])
        for name, options in problem.quantized.options.items()
    ]


@pytest.mark.parametrize(
    ("settings", "cost", "condition"),
    [
        ({}, "bops", "clean"),
        ({}, "size", NOISE),
        ({"bits": (2, 3, 4, 8), "first": None}, "bops", "jpeg/5"),
        ({"activation_bits": 8}, "bops", NOISE),
    ],
)
def test_front_is_that_of_a_fine_grid_of_multipliers(
    tiny_network: nn.Module,
    agreeable_data: ImageData,
    settings: dict[str, Any],
    cost: str,
    condition: str,
) -> None:
    problem = make_agreeable(tiny_network, agreeable_data, **settings)
    front = sensitivity_front(problem, cost, condition)
    options = problem.quantized.options
    tables = layer_table(cost_by_name(cost), problem.layers, options)
    grid = np.append(np.geomspace(1e6, 1e-6, 200_001), 0.0)
    chosen = [
        (rise[:, None] + np.outer(price, grid)).argmin(0)
        for rise, price in zip(increases(problem, condition), tables, strict=True)
    ]
    brute = [
        BitAssignment(
            {name: own[place] for (name, own), place in zip(options.items(), at, strict=True)}
        )
        for at, _ in itertools.groupby(zip(*(places.tolist() for places in chosen), strict=True))
    ]
    assert front == brute
    costs = [problem.cost(assignment)[cost] for assignment in front]
    assert all(one < other for one, other in itertools.pairwise(costs))
    assert len(front) > 3


def test_front_begins_with_the_cheapest(tiny_problem: NetworkProblem) -> None:
    assert sensitivity_front(tiny_problem, "bops", "clean", 20)[0] == tiny_problem.uniform(2)


def test_front_looks_at_the_first_images(
    tiny_network: nn.Module, agreeable_data: ImageData
) -> None:
    whole = make_agreeable(tiny_network, agreeable_data)
    fewer = dataclasses.replace(agreeable_data, search=agreeable_data.search.take(25))
    front = sensitivity_front(whole, "bops", "clean", 25)
    assert front == sensitivity_front(make_agreeable(tiny_network, fewer), "bops", "clean")
    assert front != sensitivity_front(whole, "bops", "clean")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"cost": "speed"}, SettingError),
        ({"condition": "fog/9"}, ConditionError),
        ({"images": 0}, DataError),
    ],
)
def test_front_of_wrong_arguments(
    tiny_problem: NetworkProblem, changes: dict[str, Any], error: type[DQMQError]
) -> None:
    with pytest.raises(error):
        sensitivity_front(tiny_problem, **({"cost": "bops", "condition": "clean"} | changes))
