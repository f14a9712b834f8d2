"""What environments ask of a problem; free of torch, so that a table can answer too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dqmq_env.costs import Cost
from dqmq_env.quality.condition import Condition
from dqmq_env.quality.mixture import Mixture
from dqmq_env.quantization.assignment import BitAssignment
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

    def choose(self, bits: NDArray[np.int64]) -> None:
        """Settle the bits of the next layer of each pass.

        Args:
            bits: of its weights and of the activation that it receives, shape (N, 2).
        """
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
    def activation_candidates(self) -> Mapping[str, tuple[int, ...]]:
        """The same for the layer's input: the candidates of its weights, or a single one."""
        ...

    @property
    def costs(self) -> tuple[Cost, ...]:
        """The costs that it states, each name once; rewards and budgets are about one of them."""
        ...

    @property
    def mixture(self) -> Mixture:
        """How often each condition occurs."""
        ...

    @property
    def batches(self) -> int:
        """Number of batches of the ``search`` split that an episode is about one of.

        A batch is a single image where the problem's granularity is the image.
        """
        ...

    @property
    def batch_images(self) -> int:
        """Number of images in a batch."""
        ...

    def weight_error(self, name: str) -> NDArray[np.float64]:
        """Root of the relative squared error of a layer's weights at each of its candidates."""
        ...

    def activation_error(self, name: str) -> NDArray[np.float64]:
        """The same for the activation that the layer receives, on calibration images."""
        ...

    def evaluate(
        self, assignment: BitAssignment, condition: Condition | str, split: str = "search"
    ) -> Outcome:
        """How the network does on all images of a split, arrays of shape (1,).

        Args:
            assignment: bits of every layer.
            condition: what the images go through first.
            split: ``search``, or ``test`` for a final report.
        """
        ...

    def cost(self, assignment: BitAssignment) -> dict[str, float]:
        """Each cost of an assignment as a fraction of that at 8 bits."""
        ...

    def start(self, conditions: Sequence[Condition], batches: Sequence[int]) -> Rollout:
        """Begin N passes, each over a batch of ``search`` images under a condition."""
        ...
