"""Passes of single images through a live network, in step, as one batch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from dqmq_env.evaluation.batch_pass import BatchPass
from dqmq_env.evaluation.statistics import activation_statistics
from dqmq_env.problem.protocol import Outcome
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.choice import ImageBits

if TYPE_CHECKING:
    from dqmq_env.problem.network_problem import NetworkProblem


class ImageRollout:
    """See :class:`~dqmq_env.problem.protocol.Rollout`; each pass is about one image.

    All images go through the network together. At each layer, those that get the same bits there
    are computed as one batch, whatever the bits before were, so that N passes cost little more
    than one with N images.

    Attributes:
        quality: see :class:`~dqmq_env.problem.protocol.Rollout`.

    Args:
        problem: the network and its images.
        conditions: of each image.
        indices: of the images in ``search``.
    """

    def __init__(
        self, problem: "NetworkProblem", conditions: Sequence[Condition], indices: Sequence[int]
    ) -> None:
        self._problem = problem
        pairs = list(zip(conditions, indices, strict=True))
        chosen = [problem.search.under(condition)[index] for condition, index in pairs]
        described = [problem.search.described_under(condition)[index] for condition, index in pairs]
        self.quality: NDArray[np.float32] = torch.stack(described).numpy()
        # kernels for a single image round in another way, so that one never goes alone
        repeats = 2 if len(chosen) == 1 else 1
        self._count = len(chosen)
        self._images = torch.stack(chosen * repeats)
        self._labels = problem.data.search.labels[torch.tensor(indices)]
        self._bits: list[tuple[LayerBits, ...]] = []
        self._reached: tuple[int, BatchPass] | None = None

    @property
    def images(self) -> NDArray[np.uint8]:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        shown: NDArray[np.uint8] = self._images.permute(0, 2, 3, 1).numpy()
        return shown[: self._count, None].copy()

    def activation(self) -> NDArray[np.float32]:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        layer = self._problem.quantized.layers[len(self._bits)]
        axis, reach = layer.spec.channel_axis, layer.activation_range
        parts = self._pass().activations
        rows = [activation_statistics(part, axis, reach, len(part)) for part in parts]
        statistics: NDArray[np.float32] = torch.cat(rows).numpy()
        return statistics[: self._count]

    def choose(self, bits: NDArray[np.int64]) -> None:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        self._bits.append(tuple(LayerBits(*pair) for pair in bits.tolist()))

    def outcome(self) -> Outcome:
        """See :class:`~dqmq_env.problem.protocol.Rollout`; an accuracy is 0 or 1."""
        logits = self._pass().logits[: self._count]
        accuracy = (logits.argmax(1) == self._labels).double()
        loss = F.cross_entropy(logits.double(), self._labels, reduction="none")
        return Outcome(accuracy.numpy(), loss.numpy())

    def _pass(self) -> BatchPass:
        """The pass, brought up to the layer that waits."""
        walker = self._problem.image_walker
        if self._reached is None:
            self._reached = 0, walker.start(self._problem.normalize(self._images))
        depth, reached = self._reached
        for bits in self._bits[depth:]:
            repeated = bits * (len(self._images) // self._count)
            reached = walker.advance_each(reached, ImageBits(repeated))
        self._reached = len(self._bits), reached
        return reached

    def __getstate__(self) -> dict[str, Any]:
        """Leave out activations: they are computed again from the bits when they are needed."""
        return {**self.__dict__, "_reached": None}
