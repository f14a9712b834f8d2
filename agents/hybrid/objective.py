"""The hybrid target: task loss and quantisation cost, through the network into everything."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from agents.hybrid.budgets import BudgetRange
from agents.hybrid.controller import Controller, Sampling
from agents.hybrid.costing import Costing
from agents.hybrid.gradient import GRADIENTS, Fixed, Gradient
from agents.hybrid.multiplier import Multiplier
from agents.hybrid.policy import BitPolicy
from agents.hybrid.settings import HybridSettings
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.randomness import torch_generator
from dqmq_env.training.log import TrainingLog
from dqmq_env.training.loop import Schedule
from dqmq_env.training.objective import Step


class HybridObjective:
    """Minimises the loss of the task under a bound on the expected cost.

    Candidates are sampled for each group of images; gradients reach the policy as the settings say,
    through the sample or the mean over candidates, and through what later layers see. The bound
    is held by a :class:`~agents.hybrid.multiplier.Multiplier`. Where many budgets are learned, each
    group has its own, drawn evenly on a logarithmic scale.

    When the settings' share of the run lies behind, the policy comes to rest: decisions are its
    most probable ones, and the loss is that of the task.

    Args:
        policy: learned.
        costing: of the network's layers.
        settings: see :class:`~agents.hybrid.settings.HybridSettings`.
        granularity: of the problem.
        schedule: gives the seed of sampling, and the rate at which grids are learned.
        at_rest: called when the policy has learned, and each time that it is looked over again;
            returns a number of images.

    Attributes:
        images_at_rest: what ``at_rest`` returned, in all.
    """

    def __init__(
        self,
        policy: BitPolicy,
        costing: Costing,
        settings: HybridSettings,
        granularity: str,
        schedule: Schedule,
        at_rest: Callable[[], int],
    ) -> None:
        self.policy, self.costing, self.settings = policy, costing, settings
        self.seed, self._learning_rate = schedule.seed, schedule.learning_rate
        self.size = 1 if granularity == "image" else settings.group
        self.group = self.size if granularity == "batch" else 1
        self._held = BudgetRange(*settings.budgets)
        knots = len(self._held.knots)
        self.multiplier = Multiplier(knots, settings.multiplier_rate, settings.penalty)
        self._granularity = granularity
        self._at_rest = at_rest
        self.images_at_rest = 0
        self._rests = 0
        learns = settings.distribution != "value"
        self._gradient: Gradient = GRADIENTS[settings.gradient] if learns else Fixed()
        self._numbers: dict[str, float] = {}
        self._bits = torch.zeros(0)
        self._corruptions: list[str] = []

    @property
    def _searching(self) -> bool:
        """Whether bits are still drawn."""
        return self._rests == 0

    @property
    def identity(self) -> dict[str, Any]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        settings = asdict(self.settings)
        lists = {name: list(settings[name]) for name in ("follow", "sees")}
        return {**settings, **lists, "granularity": self._granularity}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        groups = [(self.policy.deciding(), self.settings.policy_rate)]
        if self.policy.grids.follow:  # they are learned as the weights are
            groups.append((list(self.policy.grids.parameters()), self._learning_rate))
        return [{"params": own, "lr": rate, "weight_decay": 0.0} for own, rate in groups]

    def loss(self, network: QuantizedNetwork, step: Step) -> Tensor:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        rests = self.settings.rests
        while self._rests < len(rests) and step.progress >= rests[self._rests]:
            self.images_at_rest += self._at_rest()
            self._rests += 1
        generator = torch_generator(self.seed, "bits", step.number)
        groups = len(step.x) // self.size
        scene = self.policy.scene(step.batch.images, groups)
        budget = self._held.drawn(groups, generator).to(step.x)
        temperature = self.settings.temperature(step.progress)

        def controller_of() -> Controller:
            return Controller(
                self.policy,
                network,
                self.costing,
                scene,
                budget,
                temperature,
                Sampling(self._gradient, generator) if self._searching else None,
                budget if self.settings.hold == "image" else None,
                None if self._searching else self._order(groups, generator),
            )

        controller = controller_of()
        losses = step.losses(network(*self.policy.grids.around(step.x, controller, scene)))
        task = losses.mean()
        cost = controller.expected_cost if self._searching else controller.cost().to(budget)
        self._bits = controller.bits
        self._corruptions = [own.corruption for own in step.batch.conditions[:: self.size]]
        self._numbers = {
            "loss/task": task.item(),
            "policy/expected_cost": cost.mean().item(),
            "policy/excess": (cost / budget).mean().item() - 1,
            "policy/multiplier": float(self.multiplier.values.mean()),
            "policy/temperature": temperature,
        }
        if not self._searching:
            return task
        if self._gradient.paired:
            other = controller_of()
            with torch.no_grad():
                against = step.losses(network(*self.policy.grids.around(step.x, other, scene)))
            task = task + paired_term(losses, controller, against, other)
        elif controller.log_probability is not None:
            task = task + score_term(losses, controller.log_probability)
        return task + self.multiplier.term(cost, budget, self._held.shares(budget))

    def after_step(self) -> None:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        if self._searching:
            self.multiplier.update()

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
            "loss": self._numbers["loss/task"],
            "cost": self._numbers["policy/expected_cost"],
            "multiplier": self._numbers["policy/multiplier"],
        }

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        return {
            "policy": self.policy.state_dict(),
            "multiplier": self.multiplier.values,
            "rests": self._rests,
            "images_at_rest": self.images_at_rest,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        self.policy.load_state_dict(state["policy"])
        self.multiplier.values = state["multiplier"].clone()
        self._rests = int(state["rests"])
        self.images_at_rest = int(state["images_at_rest"])

    def _order(self, groups: int, generator: torch.Generator) -> Tensor | None:
        """Whose decisions each group gets: that of another one, for a share of the groups."""
        count = round(self.settings.explore * groups)
        if count < 2:
            return None
        order = torch.arange(groups)
        chosen = torch.randperm(groups, generator=generator)[:count]
        order[chosen] = chosen.roll(1)
        return order


def score_term(losses: Tensor, log_probability: Tensor) -> Tensor:
    """A term whose gradient is the score function's estimate, and whose value says nothing.

    The baseline of a group is the mean loss of the others; with a single group there is none.

    Args:
        losses: of each image, shape (N,).
        log_probability: of what was drawn for each group, shape (G,).
    """
    own = losses.detach().unflatten(0, (len(log_probability), -1)).mean(1)
    count = len(own)
    baseline = (own.sum() - own) / (count - 1) if count > 1 else torch.zeros_like(own)
    term: Tensor = ((own - baseline) * log_probability).mean()
    return term


def paired_term(
    losses: Tensor, controller: Controller, against: Tensor, other: Controller
) -> Tensor:
    """The same from two draws for the same images, each of which is the other's baseline.

    Args:
        losses: of each image at the first draw, shape (N,).
        controller: that took it.
        against: of each image at the second draw, shape (N,).
        other: that took it.
    """
    first, second = controller.log_probability, other.log_probability
    assert first is not None
    assert second is not None
    apart = (losses - against).detach().unflatten(0, (len(first), -1)).mean(1)
    term: Tensor = (apart * (first - second)).mean() / 2
    return term
