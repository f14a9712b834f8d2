"""Passes of batches through a live network, in step, that share what they have in common."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dqmq_env.evaluation.accuracy import judge
from dqmq_env.evaluation.batch_pass import BatchPass
from dqmq_env.evaluation.statistic_table import ACTIVATION_STATISTICS
from dqmq_env.evaluation.statistics import batch_statistics
from dqmq_env.problem.pass_key import PassKey
from dqmq_env.problem.protocol import Outcome
from dqmq_env.quality import DESCRIPTOR_NAMES
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import LayerBits

if TYPE_CHECKING:
    from dqmq_env.problem.network_problem import NetworkProblem

_THUMBNAILS = 16


class NetworkRollout:
    """See :class:`~dqmq_env.problem.protocol.Rollout`; passes with equal keys are computed once.

    Nothing is computed before it is looked at: layers whose bits are all known by then are walked
    as a tree.

    Args:
        problem: the network and its images.
        conditions: of each pass.
        batches: index of the batch of ``search`` images of each pass.
    """

    def __init__(
        self, problem: "NetworkProblem", conditions: Sequence[Condition], batches: Sequence[int]
    ) -> None:
        self._problem = problem
        self._keys = [
            PassKey("search", condition, batch)
            for condition, batch in zip(conditions, batches, strict=True)
        ]
        self._reached: dict[PassKey, BatchPass] = {}

    @property
    def quality(self) -> NDArray[np.float32]:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        rows = {key: self._problem.quality(key) for key in set(self._keys)}
        return np.stack([rows[key] for key in self._keys])

    @property
    def images(self) -> NDArray[np.uint8]:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        shown = [self._problem.batch(key)[0][:_THUMBNAILS] for key in self._keys]
        return np.stack([images.permute(0, 2, 3, 1).numpy() for images in shown])

    def activation(self) -> NDArray[np.float32]:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        layer = self._problem.quantized.layers[len(self._keys[0].bits)]
        axis, reach = layer.spec.channel_axis, layer.activation_range
        rows = {
            key: batch_statistics(reached.activations, axis, reach).numpy()
            for key, reached in self._passes().items()
        }
        return np.stack([rows[key] for key in self._keys])

    def choose(self, bits: NDArray[np.int64]) -> None:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        pairs = zip(self._keys, bits.tolist(), strict=True)
        self._keys = [key.extended(LayerBits(*pair)) for key, pair in pairs]

    def outcome(self) -> Outcome:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        results = {
            key: judge(reached.logits, self._problem.batch(key)[1])
            for key, reached in self._passes().items()
        }
        accuracy_and_loss = np.array([results[key] for key in self._keys])
        return Outcome(accuracy_and_loss[:, 0], accuracy_and_loss[:, 1])

    def _passes(self) -> dict[PassKey, BatchPass]:
        """The passes, brought up to the layer that waits."""
        if not self._reached:
            roots = {key._replace(bits=()) for key in self._keys}
            self._reached = {root: self._problem.passes.begin(root) for root in roots}
        depth = len(next(iter(self._reached)).bits)
        if depth < len(self._keys[0].bits):
            self._reached = self._advanced(depth)
        return self._reached

    def _advanced(self, depth: int) -> dict[PassKey, BatchPass]:
        longer: dict[PassKey, list[PassKey]] = {}
        for key in dict.fromkeys(self._keys):
            longer.setdefault(key._replace(bits=key.bits[:depth]), []).append(key)
        found: dict[PassKey, BatchPass] = {}
        for known, keys in longer.items():
            found |= self._problem.passes.descend(self._reached[known], known, keys)
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Leave out activations: they are computed again from the bits when they are needed."""
        return {**self.__dict__, "_reached": {}}


class BlindRollout(NetworkRollout):
    """The same, but nothing is seen of the images: bits cannot follow them."""

    @property
    def quality(self) -> NDArray[np.float32]:
        """Zeros; see :class:`~dqmq_env.problem.protocol.Rollout`."""
        return np.zeros((len(self._keys), len(DESCRIPTOR_NAMES)), np.float32)

    def activation(self) -> NDArray[np.float32]:
        """Zeros; see :class:`~dqmq_env.problem.protocol.Rollout`."""
        return np.zeros((len(self._keys), len(ACTIVATION_STATISTICS)), np.float32)
