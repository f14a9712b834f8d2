"""What searches by gradient share: the network, what they go for, and the way down to a budget."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dqmq_env.costs import cost_by_name
from dqmq_env.errors import SettingError
from dqmq_env.problem.protocol import Problem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.search.rule import Rule, RuleAgent
from dqmq_env.search.space import Places, Space
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import JointDecisions
from dqmq_env.task.reward import WeightedReward
from dqmq_env.task.task import Task

# a task that rewards compression alone is held to reward accuracy a little
_LEAST_SHARE = 1e-6


@dataclass(frozen=True, eq=False)
class Selection:
    """What a search by gradient ends with.

    Attributes:
        assignment: the bits found; they keep to the task's budget.
        network: trained while they were looked for, to be trained further at the assignment.
    """

    assignment: BitAssignment
    network: QuantizedNetwork

    def agent(self, problem: Problem, task: Task) -> RuleAgent:
        """Takes the bits found, whatever the condition."""
        return RuleAgent(Rule.static(problem, self.assignment), problem, task)


@dataclass(frozen=True, eq=False)
class Aim:
    """What a search by gradient goes for.

    Attributes:
        space: the assignments, with the cost that counts.
        binds: whether the budget excludes some of them; it alone is gone for then.
        price: nats of cross-entropy that are given for the whole cost at 8 bits, where no budget
            binds.
    """

    space: Space
    binds: bool
    price: float

    def decided(self, problem: Problem) -> dict[int, int]:
        """Index of each layer that leaves a choice to its number among them."""
        names = [spec.name for spec in problem.layers]
        return {names.index(name): number for number, name in enumerate(self.space.names)}

    @property
    def idle(self) -> bool:
        """Whether the widest bits are best, as nothing speaks against them."""
        return not self.binds and self.price == 0


def aim_of(problem: Problem, task: Task, exchange: float) -> Aim:
    """What a task asks for, in terms of cross-entropy and cost.

    A layer's weights and activations are decided jointly, whatever decisions the task takes.

    Args:
        problem: gives layers, candidates and costs.
        task: a budget that excludes assignments is what is gone for. Where there is none, and the
            reward is ``(1 - weight) * accuracy + weight * (1 - cost)``, the loss is cross-entropy
            plus ``exchange * weight / (1 - weight) * cost``. Other rewards know no cost.
        exchange: nats of cross-entropy taken for a unit of accuracy.

    Raises:
        BudgetError: no assignment keeps to the budget.
    """
    joint = replace(task, decisions=JointDecisions())
    space = Space(problem, joint)
    reward = task.reward
    if not space.fits(space.widest()):
        return Aim(space, True, 0.0)
    if not isinstance(reward, WeightedReward):
        return Aim(space, False, 0.0)
    rewarded = Budget(cost_by_name(reward.cost, problem.costs))
    price = exchange * reward.weight / max(1 - reward.weight, _LEAST_SHARE)
    return Aim(Space(problem, replace(joint, budget=rewarded)), False, price)


def lowered_to_fit(space: Space, places: Places, loss: Callable[[int, int, int], float]) -> Places:
    """Lower layers one by one, each time the one of the least loss, until the budget is kept.

    Args:
        space: gives costs and budget.
        places: where to begin.
        loss: of taking a layer (first) from a place (second) to one (third), the next cheaper.
    """
    places = places.copy()
    while not space.fits(places):
        steps = []
        for layer, place in enumerate(places.tolist()):
            costs = space.costs[layer]
            cheaper = np.flatnonzero(costs < costs[place])
            if len(cheaper):
                lower = int(cheaper[costs[cheaper].argmax()])
                steps.append((loss(layer, place, lower), layer, lower))
        _, layer, lower = min(steps)
        places[layer] = lower
    return places


def check_numbers(positive: dict[str, float], shares: dict[str, float]) -> None:
    """Refuse settings outside their range.

    Args:
        positive: name to a number that is to be above zero, and finite.
        shares: name to a number that is to lie between 0 and 1, both excluded.

    Raises:
        SettingError: one does not.
    """
    for name, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise SettingError(f"{name}: got {value}, allowed are finite numbers above 0")
    for name, value in shares.items():
        if not 0 < value < 1:
            raise SettingError(f"{name}: got {value}, allowed are numbers between 0 and 1")
