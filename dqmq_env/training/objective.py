"""What a training run minimises, and how the network gets its bits meanwhile."""

from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from dqmq_env.quality.batches import Batch
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.training.log import TrainingLog


class Objective(Protocol):
    """Turns a batch into a loss; the hybrid agent and every static baseline are objectives.

    Attributes:
        group: consecutive images of a batch that are to share their condition.
    """

    group: int

    @property
    def identity(self) -> dict[str, Any]:
        """What a run must have in common with one that it resumes, as JSON scalars."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser beside the network's own, each with its ``lr``."""
        ...

    def loss(
        self, network: QuantizedNetwork, x: Tensor, batch: Batch, step: int, progress: float
    ) -> Tensor:
        """The scalar to minimise.

        Args:
            network: in train mode.
            x: the normalised images of the batch.
            batch: images, labels, conditions.
            step: number of the step, from 0.
            progress: share of the run that lies behind, in [0, 1).
        """
        ...

    def after_step(self) -> None:
        """Called when the optimiser has moved."""
        ...

    def log(self, log: TrainingLog, step: int) -> dict[str, float]:
        """Write to TensorBoard; return a few numbers for the progress bar."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that changes in training, as a tree of tensors and JSON scalars."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        ...


class StaticObjective:
    """Cross-entropy at an assignment that does not change.

    Args:
        assignment: bits of every layer.
    """

    def __init__(self, assignment: BitAssignment) -> None:
        self.assignment = assignment
        self.group = 1
        self._loss = float("nan")

    @property
    def identity(self) -> dict[str, Any]:
        """See :class:`Objective`."""
        return {"assignment": self.assignment.to_json()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See :class:`Objective`."""
        return []

    def loss(
        self, network: QuantizedNetwork, x: Tensor, batch: Batch, step: int, progress: float
    ) -> Tensor:
        """See :class:`Objective`."""
        loss = F.cross_entropy(network(x, self.assignment), batch.labels)
        self._loss = loss.item()
        return loss

    def after_step(self) -> None:
        """See :class:`Objective`."""

    def log(self, log: TrainingLog, step: int) -> dict[str, float]:
        """See :class:`Objective`."""
        log.scalars({"loss/cross_entropy": self._loss}, step)
        return {"loss": self._loss}

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Objective`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Objective`."""


def parameter_groups(network: nn.Module, learning_rate: float) -> list[dict[str, Any]]:
    """Weights and step sizes of a network, without weight decay on steps and vectors."""
    named = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    matrices = [p for n, p in named if p.ndim > 1 and not n.endswith("log_step")]
    others = [p for n, p in named if p.ndim <= 1 or n.endswith("log_step")]
    return [
        {"params": matrices, "lr": learning_rate},
        {"params": others, "lr": learning_rate, "weight_decay": 0.0},
    ]
