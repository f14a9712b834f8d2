"""What a training run minimises, and how the network gets its bits meanwhile."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from dqmq_env.quality.batches import Batch
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.choice import Chooser, ImageBits
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.scheme import DEFAULT_SCHEME, Scheme
from dqmq_env.search.rule import Rule
from dqmq_env.training.criterion import Losses
from dqmq_env.training.log import TrainingLog


@dataclass(frozen=True)
class Step:
    """What an objective has to work with in one step.

    Attributes:
        x: the normalised images of the batch, shape (N, C, H, W).
        batch: images, labels, conditions.
        number: of the step, from 0.
        progress: share of the run that lies behind, in [0, 1).
        losses: judges the logits of the batch, image by image.
    """

    x: Tensor
    batch: Batch
    number: int
    progress: float
    losses: Losses


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

    def loss(self, network: QuantizedNetwork, step: Step) -> Tensor:
        """The scalar to minimise; the network is in train mode."""
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


class _SettledObjective(ABC):
    """Cross-entropy at bits that are not learned, with what the scheme adds to it."""

    def __init__(self, assignments: Collection[BitAssignment], scheme: Scheme) -> None:
        self.scheme = scheme
        self.group = 1
        self._assignments = assignments
        self._loss = float("nan")

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """See :class:`Objective`."""

    @abstractmethod
    def _bits(self, network: QuantizedNetwork, batch: Batch) -> BitAssignment | Chooser:
        """What the network gets as the bits of a batch."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See :class:`Objective`."""
        return []

    def loss(self, network: QuantizedNetwork, step: Step) -> Tensor:
        """See :class:`Objective`."""
        loss = step.losses(network(step.x, self._bits(network, step.batch))).mean()
        self._loss = loss.item()
        return loss + _penalty(network, self._assignments)

    def after_step(self) -> None:
        """See :class:`Objective`."""
        return

    def log(self, log: TrainingLog, step: int) -> dict[str, float]:
        """See :class:`Objective`."""
        log.scalars({"loss/task": self._loss}, step)
        return {"loss": self._loss}

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Objective`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Objective`."""
        return


class StaticObjective(_SettledObjective):
    """Cross-entropy at an assignment that does not change.

    Args:
        assignment: bits of every layer.
        scheme: that of the network.
    """

    def __init__(self, assignment: BitAssignment, scheme: Scheme = DEFAULT_SCHEME) -> None:
        super().__init__([assignment], scheme)
        self.assignment = assignment

    @property
    def identity(self) -> dict[str, Any]:
        """See :class:`Objective`."""
        return {"assignment": self.assignment.to_json(), "scheme": repr(self.scheme)}

    def _bits(self, network: QuantizedNetwork, batch: Batch) -> BitAssignment:
        return self.assignment


class RuleObjective(_SettledObjective):
    """Cross-entropy with each image at the bits that a rule gives its condition.

    All images go through the network in one pass, so that batch normalisation sees the whole batch;
    within a layer, those of equal bits are computed together.

    Args:
        rule: knows every condition of the mixture.
        scheme: that of the network.
    """

    def __init__(self, rule: Rule, scheme: Scheme = DEFAULT_SCHEME) -> None:
        super().__init__(set(rule.values()), scheme)
        self.rule = rule

    @property
    def identity(self) -> dict[str, Any]:
        """See :class:`Objective`."""
        return {"rule": self.rule.to_dict(), "scheme": repr(self.scheme)}

    def _bits(self, network: QuantizedNetwork, batch: Batch) -> Chooser:
        assignments = [self.rule[condition] for condition in batch.conditions]

        def chooser(index: int, activation: Tensor) -> ImageBits:
            name = network.specs[index].name
            return ImageBits(tuple(own[name] for own in assignments))

        return chooser


def _penalty(network: QuantizedNetwork, assignments: Collection[BitAssignment]) -> Tensor | float:
    """What the scheme adds to the loss, once for each layer and width of its input in use."""
    total: Tensor | float = 0.0
    for layer in network.layers:
        for bits in sorted({own[layer.spec.name].activation for own in assignments}):
            total = total + layer.penalty(bits)
    return total


def parameter_groups(network: nn.Module, learning_rate: float) -> list[dict[str, Any]]:
    """Parameters of a network, with weight decay on none but convolutions and matrices."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            plain = name.endswith("log_step") or ".alignment." in name
            (others if plain or parameter.ndim <= 1 else matrices).append(parameter)
    return [
        {"params": matrices, "lr": learning_rate},
        {"params": others, "lr": learning_rate, "weight_decay": 0.0},
    ]
