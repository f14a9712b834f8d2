"""What environments ask of a problem; free of torch, so that a table can answer too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dqmq_env.errors import AssignmentError
from dqmq_env.quality.condition import Condition
from dqmq_env.quality.mixture import Mixture
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.spec import LayerSpec


@dataclass(frozen=True)
class Outcome:
    """How a network did.

    Attributes:
        accuracy: top-1, in [0, 1], shape (N,).
        loss: mean cross-entropy in nats, shape (N,).
    """

    accuracy: NDArray[np.float64]
    loss: NDArray[np.float64]


class Rollout(Protocol):
    """N passes through the network, in step: each waits for the bits of the same layer."""

    @property
    def quality(self) -> NDArray[np.float32]:
        """Mean quality descriptor of each batch of images, in [0, 1], shape (N, 6)."""
        ...

    @property
    def images(self) -> NDArray[np.uint8]:
        """The first images of each batch, shape (N, n, H, W, C)."""
        ...

    def activation(self) -> NDArray[np.float32]:
        """Statistics of what the next layer is about to receive, in [0, 1], shape (N, 4)."""
        ...

    def choose(self, bits: Sequence[LayerBits]) -> None:
        """Compute the next layer of each pass at its bits."""
        ...

    def outcome(self) -> Outcome:
        """How each pass ended; only after the last layer."""
        ...


class Problem(Protocol):
    """A network, its images, the candidate bits of its layers."""

    @property
    def layers(self) -> Sequence[LayerSpec]:
        """The layers in forward order."""
        ...

    @property
    def candidates(self) -> Mapping[str, tuple[int, ...]]:
        """Layer name to candidate bits, ascending; a single one where there is no choice."""
        ...

    @property
    def mixture(self) -> Mixture:
        """How often each condition occurs."""
        ...

    @property
    def batches(self) -> int:
        """Number of batches that the ``search`` split is divided into."""
        ...

    def weight_error(self, name: str) -> NDArray[np.float64]:
        """Root of the relative squared error of a layer's weights at each of its candidates."""
        ...

    def start(self, conditions: Sequence[Condition], batches: Sequence[int]) -> Rollout:
        """Begin N passes, each over a batch of ``search`` images under a condition."""
        ...


def decided_layers(problem: Problem) -> tuple[list[int], tuple[int, ...]]:
    """Indices of the layers that leave a choice, and the candidates that they all share.

    Raises:
        AssignmentError: no layer leaves a choice, or layers differ in their candidates.
    """
    choices = {
        index: problem.candidates[spec.name]
        for index, spec in enumerate(problem.layers)
        if len(problem.candidates[spec.name]) > 1
    }
    if len(set(choices.values())) != 1:
        raise AssignmentError(
            "candidates: allowed is one set of two or more widths, shared by all layers that have "
            f"a choice; got {sorted(set(choices.values()))}"
        )
    return list(choices), next(iter(choices.values()))
