"""The hybrid target: task loss and quantisation cost, through the network into everything."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.hybrid.controller import Controller, Costing
from agents.hybrid.policy import BitPolicy
from dqmq_env.quality import describe
from dqmq_env.quality.batches import Batch
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.randomness import torch_generator
from dqmq_env.training.log import TrainingLog


@dataclass(frozen=True)
class HybridSettings:
    """Settings of the policy's side of the training.

    Attributes:
        budget: average cost over the mixture, controller included, as a fraction of the cost at 8
            bits.
        policy_rate: peak learning rate of AdamW for the policy.
        multiplier_rate: step of the multiplier for each unit of relative excess.
        penalty: weight of the squared relative excess.
        first_temperature: of the distribution over bits at the start.
        last_temperature: at the end; between the two it falls exponentially.
        group: consecutive images of a batch that share their bits; 1 decides for each image.
        embedding: size of the policy's shared embedding.
    """

    budget: float = 0.14
    policy_rate: float = 0.03
    multiplier_rate: float = 0.02
    penalty: float = 2.0
    first_temperature: float = 1.0
    last_temperature: float = 0.1
    group: int = 1
    embedding: int = 8

    def temperature(self, progress: float) -> float:
        """Temperature when a share ``progress`` of the run lies behind."""
        ratio = self.last_temperature / self.first_temperature
        return float(self.first_temperature * ratio**progress)


class HybridObjective:
    """Minimises cross-entropy under a bound on the expected cost.

    With E the relative excess of the expected cost over the budget, averaged over the batch, the
    loss is ``cross_entropy + multiplier * E + penalty / 2 * E**2`` (an augmented Lagrangian), and
    after each step the multiplier becomes ``max(0, multiplier + multiplier_rate * E)``. Candidates
    are sampled for each group of images; gradients reach the policy straight through the sample.

    Args:
        policy: learned.
        costing: of the network's layers.
        settings: see :class:`HybridSettings`.
        seed: of sampling.
    """

    def __init__(
        self, policy: BitPolicy, costing: Costing, settings: HybridSettings, seed: int
    ) -> None:
        self.policy, self.costing, self.settings, self.seed = policy, costing, settings, seed
        self.group = settings.group
        self.multiplier = 0.0
        self._excess = 0.0
        self._numbers: dict[str, float] = {}
        self._bits = torch.zeros(0)
        self._corruptions: list[str] = []

    @property
    def identity(self) -> dict[str, Any]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        return asdict(self.settings)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        parameters = list(self.policy.parameters())
        return [{"params": parameters, "lr": self.settings.policy_rate, "weight_decay": 0.0}]

    def loss(
        self, network: QuantizedNetwork, x: Tensor, batch: Batch, step: int, progress: float
    ) -> Tensor:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        size = self.settings.group
        quality = describe(batch.images).unflatten(0, (-1, size)).mean(1)
        temperature = self.settings.temperature(progress)
        controller = Controller(
            self.policy,
            network,
            self.costing,
            quality,
            temperature,
            torch_generator(self.seed, "bits", step),
        )
        task = F.cross_entropy(network(x, controller), batch.labels)
        cost = controller.expected_cost.mean()
        excess = cost / self.settings.budget - 1
        self._excess = excess.item()
        self._bits = controller.bits
        self._corruptions = [condition.corruption for condition in batch.conditions[::size]]
        self._numbers = {
            "loss/cross_entropy": task.item(),
            "policy/expected_cost": cost.item(),
            "policy/multiplier": self.multiplier,
            "policy/temperature": temperature,
        }
        return task + self.multiplier * excess + self.settings.penalty / 2 * excess**2

    def after_step(self) -> None:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        raised = self.multiplier + self.settings.multiplier_rate * self._excess
        self.multiplier = max(0.0, raised)

    def log(self, log: TrainingLog, step: int) -> dict[str, float]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        log.scalars(self._numbers, step)
        bits = self._bits.float()
        names = sorted(set(self._corruptions))
        chosen = [torch.tensor([name == own for own in self._corruptions]) for name in names]
        columns = [bits[rows].mean(0) for rows in chosen]
        for name, column in zip(names, columns, strict=True):
            log.scalars({f"bits_by_corruption/{name}": float(column.mean())}, step)
        for index, mean in enumerate(bits.mean(0).tolist()):
            log.scalars({f"bits_by_layer/{index:02d}": mean}, step)
        log.heat_map("bits/layers_by_corruption", torch.stack(columns, 1) / 8, step)
        return {
            "loss": self._numbers["loss/cross_entropy"],
            "cost": self._numbers["policy/expected_cost"],
            "multiplier": self.multiplier,
        }

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        return {"policy": self.policy.state_dict(), "multiplier": self.multiplier}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        self.policy.load_state_dict(state["policy"])
        self.multiplier = float(state["multiplier"])
