"""A live network as a problem: every answer is computed by running it."""

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dqmq_env.costs import COSTS, Cost, as_costs, fraction
from dqmq_env.data import ImageData
from dqmq_env.data.arrays import Images, as_split, make_image_data
from dqmq_env.errors import DataError, NetworkError, SettingError
from dqmq_env.evaluation.accuracy import judge
from dqmq_env.evaluation.batch_pass import BatchWalker, images_in_a_part
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.evaluation.walk import make_walker
from dqmq_env.problem.checks import check_copy, check_network, within
from dqmq_env.problem.image_rollout import ImageRollout
from dqmq_env.problem.network_rollout import BlindRollout, NetworkRollout
from dqmq_env.problem.pass_key import PassKey
from dqmq_env.problem.passes import Passes
from dqmq_env.problem.protocol import Outcome, Rollout
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.quality.condition import Condition
from dqmq_env.quality.conditioned import ConditionedImages
from dqmq_env.quality.mixture import DEFAULT_MIXTURE, Conditions, as_mixture
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.candidates import candidate_bits
from dqmq_env.quantization.folding import fold_batch_norm
from dqmq_env.quantization.integer_kernel import integers_are_fast, use_integer_kernels
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.post_training import DEFAULT_POST_TRAINING, PostTraining
from dqmq_env.quantization.scheme import DEFAULT_SCHEME, Scheme
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.quantization.tracing import trace_layers

_ROLLOUTS: dict[str, type[NetworkRollout] | type[ImageRollout]] = {
    "batch": NetworkRollout,
    "image": ImageRollout,
    "static": BlindRollout,
}


class NetworkProblem:
    """A trained network, its images, and the bits that its layers may get.

    Weights are quantised after training: batch normalisation is folded, and each layer, with a
    weight step per channel and an activation step, is fitted to what it computes in float on
    calibration images of mixed quality from the ``train`` split
    (:class:`~dqmq_env.quantization.post_training.Reconstruction`).

    Args:
        network: any module in eval mode that maps normalised images to logits, with ``Conv2d`` or
            ``Linear`` layers. Kinds of layers that cannot be quantised stay in float.
        train: images that weights are fitted and quantisers calibrated on: a pair (images, labels)
            with images (N, C, H, W) of uint8, or float in [0, 1], before normalisation; or a
            ``Dataset``; or an :class:`~dqmq_env.data.ImageSplit`.
        search: images that rewards are measured on; none of them should be in ``train``.
        test: images for a final report; may be left out.
        mean: of the normalisation, per channel, on the [0, 1] scale.
        std: of the normalisation, per channel, on the [0, 1] scale.
        bits: candidate bits of every layer but the first and the last.
        first: bits of the first layer; ``None`` makes it one of the others.
        last: bits of the last layer; ``None`` makes it one of the others.
        activation_bits: one width for all activations but those of the first and the last layer;
            ``None`` lets them have the candidates of the weights.
        weight_bits: the same for weights: decisions are about activations alone.
        granularity: what bits follow: ``batch`` for episodes about a batch of images, ``image`` for
            episodes about a single one, ``static`` for episodes about a batch that show neither
            its quality nor its activations.
        conditions: those that occur, equally often, or a mapping of conditions to weights, or a
            :class:`~dqmq_env.quality.Mixture`.
        exclude: names of layers that stay in float.
        batch_size: ``search`` images in one batch, at most 250 by default; what is left over is not
            used.
        calibration_images: number of ``train`` images that steps are set from, at most 250 by
            default.
        post_training: what makes the network ready for evaluation at every assignment, such as
            :class:`~dqmq_env.quantization.post_training.StepSearch`; the network to be trained gets
            its steps alone.
        seed: of calibration and of the noise of corruptions.
        cache_bytes: bound on the memory of recent passes, which those that begin like them share.
        classes: names of the classes; numbers when left out.
        name: of the data set, for reports.
        costs: those that rewards and budgets may be about.

    Raises:
        NetworkError: the network is in train mode, holds NaN, fails on the images, its output is
            not logits, or its copy with layers exchanged computes something else.
        AssignmentError: ``bits`` are not 1 to 8 each, without repetition.
        ConditionError: there is no such condition.
        DataError: images or labels do not fit, or there are fewer than asked for.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        train: Images,
        search: Images,
        test: Images | None = None,
        mean: Sequence[float],
        std: Sequence[float],
        bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8),
        first: int | None = 8,
        last: int | None = 8,
        activation_bits: int | None = None,
        weight_bits: int | None = None,
        granularity: str = "batch",
        conditions: Conditions = DEFAULT_MIXTURE,
        exclude: Collection[str] = (),
        batch_size: int | None = None,
        calibration_images: int | None = None,
        post_training: PostTraining = DEFAULT_POST_TRAINING,
        seed: int = 0,
        cache_bytes: int = 2**27,
        classes: Sequence[str] | None = None,
        name: str = "own",
        costs: Sequence[Cost] = COSTS,
    ) -> None:
        self.costs = as_costs(costs)
        if granularity not in _ROLLOUTS:
            raise SettingError(f"granularity: got {granularity!r}, allowed are {list(_ROLLOUTS)}")
        fitted = as_split(train, "train")
        if not len(fitted):
            raise DataError("train: got no images, allowed are 1 and more")
        self.network = network
        self.normalize = Normalize(mean, std)
        count = check_network(network, fitted, self.normalize)
        if classes is None:
            classes = [str(number) for number in range(count)]
        elif len(classes) != count:
            raise NetworkError(f"network: it gives {count} logits, allowed are {len(classes)}")
        self.data = data = make_image_data(name, fitted, search, test, mean, std, classes)
        self.batch_size = within("batch_size", batch_size, len(data.search))
        number = within("calibration_images", calibration_images, len(data.train))
        self.mixture = mixture = as_mixture(conditions)
        self.seed = seed
        self.search = ConditionedImages(data.search, seed)
        self.test = ConditionedImages(data.test, seed)
        calibration = MixedQualityBatches(data.train, mixture, number, seed, shift=0)
        self.calibration = calibration.at(0).images
        x = self.normalize(self.calibration)
        self._specs = tuple(trace_layers(network, x[:1], exclude))
        of_weights = bits if weight_bits is None else (weight_bits,)
        of_activations = bits if activation_bits is None else (activation_bits,)
        self._candidates = candidate_bits(self._specs, of_weights, first, last)
        self._activation_candidates = candidate_bits(self._specs, of_activations, first, last)
        self.quantized = self._quantized_copy(fold_batch_norm(network))
        self.quantized.to(memory_format=torch.channels_last)
        post_training(self.quantized, x)
        check_copy(self.quantized, network, x[:2])
        if integers_are_fast():
            use_integer_kernels(self.quantized)
        self.granularity = granularity
        self._episode = _ROLLOUTS[granularity]
        self.passes = Passes(self, cache_bytes)

    @classmethod
    def over(cls, network: nn.Module, data: ImageData, **settings: Any) -> "NetworkProblem":
        """The problem of a network over a data set whose splits and normalisation are known.

        Args:
            network: see the class.
            data: gives splits, mean and std.
            settings: the other arguments of the class.
        """
        return cls(
            network,
            train=data.train,
            search=data.search,
            test=data.test,
            mean=data.mean,
            std=data.std,
            classes=data.classes,
            name=data.name,
            **settings,
        )

    @property
    def layers(self) -> Sequence[LayerSpec]:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self._specs

    @property
    def candidates(self) -> Mapping[str, tuple[int, ...]]:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self._candidates

    @property
    def activation_candidates(self) -> Mapping[str, tuple[int, ...]]:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self._activation_candidates

    @property
    def batches(self) -> int:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        count = len(self.data.search)
        return count if self._episode is ImageRollout else count // self.batch_size

    @property
    def batch_images(self) -> int:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return 1 if self._episode is ImageRollout else self.batch_size

    @cached_property
    def walker(self) -> BatchWalker:
        """Walks the quantised network layer by layer."""
        return BatchWalker(make_walker(self.quantized), images_in_a_part(self._specs))

    @cached_property
    def image_walker(self) -> BatchWalker:
        """The same in larger parts, which images of different bits share."""
        widest = max(len(widths) for widths in self._candidates.values())
        return BatchWalker(self.walker.walker, self.walker.part * widest)

    def uniform(self, bits: int) -> BitAssignment:
        """The assignment of ``bits`` to every layer that leaves a choice.

        Raises:
            AssignmentError: ``bits`` is not a candidate.
        """
        return self.quantized.uniform(bits)

    def weight_error(self, name: str) -> NDArray[np.float64]:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        layer = next(layer for layer in self.quantized.layers if layer.spec.name == name)
        weight = layer.inner.weight
        with torch.no_grad():
            norm = weight.norm().clamp_min(1e-6)
            errors = [
                float((layer.quantized_weight(bits) - weight).norm() / norm)
                for bits in layer.candidates
            ]
        return np.array(errors)

    def activation_error(self, name: str) -> NDArray[np.float64]:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self._activation_errors[name]

    @cached_property
    def _activation_errors(self) -> dict[str, NDArray[np.float64]]:
        return self.quantized.activation_errors(self.normalize(self.calibration))

    def trainable(self, scheme: Scheme = DEFAULT_SCHEME) -> QuantizedNetwork:
        """A fresh quantised copy of the float network, with its batch norms, to be trained.

        Args:
            scheme: how it is quantised meanwhile, by default with learned steps.
        """
        network = self._quantized_copy(self.network, scheme)
        network.to(memory_format=torch.channels_last)
        network.calibrate(self.normalize(self.calibration))
        return network

    def post_trained(self) -> QuantizedNetwork:
        """A copy of the network as post-training quantisation left it, its weights frozen."""
        return copy.deepcopy(self.quantized).requires_grad_(False)

    def start(self, conditions: Sequence[Condition], batches: Sequence[int]) -> Rollout:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self._episode(self, tuple(conditions), tuple(batches))

    def batch(self, key: PassKey) -> tuple[Tensor, Tensor]:
        """Images (uint8) and labels of the batch of a pass."""
        images, part = self._split(key.split), self._slice(key)
        return images.under(key.condition)[part], images.split.labels[part]

    def quality(self, key: PassKey) -> NDArray[np.float32]:
        """Mean quality descriptor of the batch of a pass, shape (6,)."""
        described = self._split(key.split).described_under(key.condition)
        mean: NDArray[np.float32] = described[self._slice(key)].mean(0).numpy()
        return mean

    @torch.no_grad()
    def evaluate(
        self, assignment: BitAssignment, condition: Condition | str, split: str = "search"
    ) -> Outcome:
        """Accuracy and loss on all images of a split, arrays of shape (1,).

        Args:
            assignment: bits of every layer.
            condition: what the images go through first.
            split: ``search``, or ``test`` for a final report.

        Raises:
            AssignmentError: the bits do not fit the layers.
            ConditionError: there is no such condition.
        """
        labels = self._split(split).split.labels
        bits = self.quantized.in_order(assignment)
        logits = []
        for number in range(math.ceil(len(labels) / self.batch_size)):
            root = PassKey(split, Condition.parse(condition), number)
            logits.append(self.passes.reach(root._replace(bits=bits)).logits)
        accuracy, loss = judge(torch.cat(logits), labels)
        return Outcome(np.array([accuracy]), np.array([loss]))

    def cost(self, assignment: BitAssignment) -> dict[str, float]:
        """Each cost as a fraction of that at 8 bits."""
        return {cost.name: fraction(cost, self._specs, assignment) for cost in self.costs}

    def _slice(self, key: PassKey) -> slice:
        return slice(key.batch * self.batch_size, (key.batch + 1) * self.batch_size)

    def _quantized_copy(
        self, network: nn.Module, scheme: Scheme = DEFAULT_SCHEME
    ) -> QuantizedNetwork:
        return QuantizedNetwork(
            network,
            self._specs,
            self._candidates,
            activation_candidates=self._activation_candidates,
            scheme=scheme,
        )

    def _split(self, name: str) -> ConditionedImages:
        if name not in ("search", "test"):
            raise SettingError(f"split: got {name!r}, allowed are 'search' and 'test'")
        return self.search if name == "search" else self.test

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made again when it is needed: the walkers."""
        made_again = ("walker", "image_walker")
        return {key: value for key, value in self.__dict__.items() if key not in made_again}
