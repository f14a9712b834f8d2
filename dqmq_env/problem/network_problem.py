"""A live network as a problem: every answer is computed by running it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dqmq_env.costs import Bops, Cost, Size, fraction
from dqmq_env.data import ImageData
from dqmq_env.errors import DataError, NetworkError, SettingError
from dqmq_env.evaluation.accuracy import judge
from dqmq_env.evaluation.cache import PauseCache
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.evaluation.walk import Pause, Walker, make_walker
from dqmq_env.problem.network_rollout import NetworkRollout
from dqmq_env.problem.pass_key import PassKey
from dqmq_env.problem.protocol import Outcome
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.quality.condition import Condition
from dqmq_env.quality.conditioned import ConditionedImages
from dqmq_env.quality.mixture import DEFAULT_MIXTURE, Mixture
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.folding import fold_batch_norm
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.network import QuantizedNetwork, candidate_bits
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.quantization.tracing import trace_layers

COSTS: tuple[Cost, ...] = (Size(), Bops())


class NetworkProblem:
    """A trained network, its images, and the bits that its layers may get.

    Weights are quantised after training: batch normalisation is folded, weight steps are set per
    channel and activation steps per layer by the least squared error on calibration images of mixed
    quality from the ``train`` split.

    Args:
        network: any module in eval mode that maps normalised images to logits.
        data: images, labels, normalisation; its splits are used as DESIGN names them.
        bits: candidate bits of every layer but the first and the last.
        first: bits of the first layer; ``None`` makes it one of the others.
        last: bits of the last layer; ``None`` makes it one of the others.
        mixture: how often each condition occurs.
        batch_size: ``search`` images in one batch; what is left over is not used.
        calibration_images: number of ``train`` images that steps are set from.
        seed: of calibration and of the noise of corruptions.
        cache_bytes: bound on the memory of recent passes, which those that begin like them share.

    Raises:
        NetworkError: the network is in train mode, holds NaN, fails on the images, its output is
            not logits, or its copy with layers exchanged computes something else.
        AssignmentError: ``bits`` are not 1 to 8 each, without repetition.
        DataError: there are fewer images than asked for.
    """

    def __init__(
        self,
        network: nn.Module,
        data: ImageData,
        *,
        bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8),
        first: int | None = 8,
        last: int | None = 8,
        mixture: Mixture = DEFAULT_MIXTURE,
        batch_size: int = 250,
        calibration_images: int = 250,
        seed: int = 0,
        cache_bytes: int = 2**27,
    ) -> None:
        if not 1 <= batch_size <= len(data.search):
            raise DataError(f"batch_size: got {batch_size}, allowed are 1 to {len(data.search)}")
        if not 1 <= calibration_images <= len(data.train):
            raise DataError(
                f"calibration_images: got {calibration_images}, allowed are 1 to {len(data.train)}"
            )
        self.network = network
        self.data = data
        self.mixture = mixture
        self.batch_size = batch_size
        self.seed = seed
        self.normalize = Normalize(data.mean, data.std)
        self.search = ConditionedImages(data.search, seed)
        self.test = ConditionedImages(data.test, seed)
        calibration = MixedQualityBatches(data.train, mixture, calibration_images, seed, shift=0)
        self.calibration = calibration.at(0).images
        x = self.normalize(self.calibration)
        _check_network(network, x[:2], len(data.classes))
        self._specs = tuple(trace_layers(network, x[:1]))
        self._candidates = candidate_bits(self._specs, bits, first, last)
        self.quantized = QuantizedNetwork(fold_batch_norm(network), self._specs, self._candidates)
        self.quantized.to(memory_format=torch.channels_last)
        self.quantized.calibrate(x)
        _check_copy(self.quantized, network, x[:2])
        self._walker: Walker | None = None
        self._cache: PauseCache[PassKey] = PauseCache(cache_bytes)

    @property
    def specs(self) -> Sequence[LayerSpec]:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self._specs

    @property
    def candidates(self) -> Mapping[str, tuple[int, ...]]:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self._candidates

    @property
    def batches(self) -> int:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return len(self.data.search) // self.batch_size

    @property
    def walker(self) -> Walker:
        """Walks the quantised network layer by layer."""
        if self._walker is None:
            self._walker = make_walker(self.quantized)
        return self._walker

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

    def trainable(self) -> QuantizedNetwork:
        """A fresh quantised copy of the float network, with its batch norms, to be trained."""
        network = QuantizedNetwork(self.network, self._specs, self._candidates)
        network.to(memory_format=torch.channels_last)
        network.calibrate(self.normalize(self.calibration))
        return network

    def start(self, conditions: Sequence[Condition], batches: Sequence[int]) -> NetworkRollout:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return NetworkRollout(self, tuple(conditions), tuple(batches))

    def batch(self, key: PassKey) -> tuple[Tensor, Tensor]:
        """Images (uint8) and labels of the batch of a pass."""
        images = self._split(key.split)
        part = slice(key.batch * self.batch_size, (key.batch + 1) * self.batch_size)
        return images.under(key.condition)[part], images.split.labels[part]

    def pause(self, key: PassKey) -> Pause:
        """The pass up to ``key``, from the longest beginning of it that is at hand."""
        known = len(key.bits)
        while known > 0 and self._cache.get(key._replace(bits=key.bits[:known])) is None:
            known -= 1
        reached = key._replace(bits=key.bits[:known])
        pause = self._cache.get(reached)
        if pause is None:
            pause = self.walker.start(self.normalize(self.batch(reached)[0]))
            self._cache.put(reached, pause)
        for bits in key.bits[known:]:
            reached = reached.extended(bits)
            pause = self.advance(pause, reached)
        return pause

    def advance(self, pause: Pause, key: PassKey) -> Pause:
        """The pass of ``key`` from the ``pause`` one layer before it."""
        kept = self._cache.get(key)
        if kept is None:
            kept = self.walker.advance(pause, key.bits[-1])
            self._cache.put(key, kept)
        return kept

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
        keys = [
            PassKey(split, Condition.parse(condition), number, bits)
            for number in range(math.ceil(len(labels) / self.batch_size))
        ]
        logits = [self.pause(key).logits for key in keys]
        accuracy, loss = judge(torch.cat([part for part in logits if part is not None]), labels)
        return Outcome(np.array([accuracy]), np.array([loss]))

    def cost(self, assignment: BitAssignment) -> dict[str, float]:
        """Each cost as a fraction of that at 8 bits."""
        return {cost.name: fraction(cost, self._specs, assignment) for cost in COSTS}

    def _split(self, name: str) -> ConditionedImages:
        if name not in ("search", "test"):
            raise SettingError(f"split: got {name!r}, allowed are 'search' and 'test'")
        return self.search if name == "search" else self.test

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made again when it is needed: the walker and the passes at hand."""
        empty: PauseCache[PassKey] = PauseCache(self._cache.capacity)
        return {**self.__dict__, "_walker": None, "_cache": empty}


@torch.no_grad()
def _check_network(network: nn.Module, x: Tensor, classes: int) -> None:
    if network.training:
        raise NetworkError("network: it is in train mode, allowed is eval mode (network.eval())")
    for name, value in network.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise NetworkError(f"network: {name} holds NaN or infinity")
    try:
        logits = network(x.clone())
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        images = tuple(x.shape[1:])
        raise NetworkError(f"network: it fails on images of shape {images}: {error}") from error
    if not isinstance(logits, Tensor) or logits.shape != (len(x), classes):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise NetworkError(f"network: its output is {shape}, allowed is ({len(x)}, {classes})")


@torch.no_grad()
def _check_copy(quantized: QuantizedNetwork, network: nn.Module, x: Tensor) -> None:
    """Compare at float bits, where nothing but the rounding of floats may differ."""
    floats = BitAssignment.uniform([spec.name for spec in quantized.specs], FLOAT_BITS)
    expected, logits = network(x.clone()), quantized(x.clone(), floats)
    if not torch.allclose(logits, expected, rtol=0, atol=1e-3 * float(expected.abs().max())):
        raise NetworkError(
            "network: it gives other logits with its layers exchanged, even at float bits; a class "
            "derived from Conv2d or Linear must keep its forward, and the output of a module that "
            "works in place must be used"
        )
