"""Passes through a live network, in step, that share what they have in common."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dqmq_env.evaluation.accuracy import judge
from dqmq_env.evaluation.statistics import activation_statistics
from dqmq_env.evaluation.walk import Pause
from dqmq_env.problem.pass_key import PassKey
from dqmq_env.problem.protocol import Outcome
from dqmq_env.quality.condition import Condition
from dqmq_env.quality.descriptors import describe
from dqmq_env.quantization.assignment import LayerBits

if TYPE_CHECKING:
    from dqmq_env.problem.network_problem import NetworkProblem

_THUMBNAILS = 16


class NetworkRollout:
    """See :class:`~dqmq_env.problem.protocol.Rollout`; passes with equal keys are computed once.

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
        self._pauses: dict[PassKey, Pause] = {}

    @property
    def quality(self) -> NDArray[np.float32]:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        rows = {
            key: describe(self._problem.batch(key)[0]).mean(0).numpy() for key in set(self._keys)
        }
        return np.stack([rows[key] for key in self._keys])

    @property
    def images(self) -> NDArray[np.uint8]:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        shown = [self._problem.batch(key)[0][:_THUMBNAILS] for key in self._keys]
        return np.stack([images.permute(0, 2, 3, 1).numpy() for images in shown])

    def activation(self) -> NDArray[np.float32]:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        rows = {}
        for key in set(self._keys):
            layer = self._problem.quantized.layers[len(key.bits)]
            activation = self._pause(key).activation
            assert activation is not None
            rows[key] = activation_statistics(activation, layer.activation_range)[0].numpy()
        return np.stack([rows[key] for key in self._keys])

    def choose(self, bits: Sequence[LayerBits]) -> None:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        keys = [key.extended(choice) for key, choice in zip(self._keys, bits, strict=True)]
        longer: dict[PassKey, Pause] = {}
        for before, key in zip(self._keys, keys, strict=True):
            if key not in longer:
                longer[key] = self._problem.advance(self._pause(before), key)
        self._keys, self._pauses = keys, longer

    def outcome(self) -> Outcome:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        results: dict[PassKey, tuple[float, float]] = {}
        for key in set(self._keys):
            logits = self._pause(key).logits
            assert logits is not None
            results[key] = judge(logits, self._problem.batch(key)[1])
        accuracy_and_loss = np.array([results[key] for key in self._keys])
        return Outcome(accuracy_and_loss[:, 0], accuracy_and_loss[:, 1])

    def _pause(self, key: PassKey) -> Pause:
        if key not in self._pauses:
            self._pauses[key] = self._problem.pause(key)
        return self._pauses[key]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out activations: they are computed again from the bits when they are needed."""
        return {**self.__dict__, "_pauses": {}}
