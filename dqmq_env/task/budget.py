"""A hard budget: which candidates leave it reachable."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dqmq_env.costs import Cost, layer_table
from dqmq_env.errors import BudgetError
from dqmq_env.problem.protocol import Problem
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.task.decisions import ACTIVATION, WEIGHT, Decision, Plan

ROUNDING = 1e-12
"""What a sum of layers' costs may exceed a budget by, being a sum of floats."""


@dataclass(frozen=True)
class Budget:
    """A bound on a cost, as a fraction of the cost at 8 bits.

    Attributes:
        cost: what is bounded.
        fraction: the bound; 1 binds nothing where candidates go up to 8 bits.
    """

    cost: Cost
    fraction: float = 1.0


class Ledger:
    """Keeps account of a budget over N episodes in step.

    The weight bits of a layer commit to its cost at the cheapest activation bits that go with
    them; the activation bits add the rest.

    Args:
        problem: gives layers and candidates.
        budget: the bound.
        plan: which pairs of bits are allowed.

    Raises:
        BudgetError: not even the cheapest bits everywhere keep to the budget.
    """

    def __init__(self, problem: Problem, budget: Budget, plan: Plan) -> None:
        self.budget = budget
        self._pairs = pair_tables(budget.cost, problem, plan)
        lowest = np.array([pairs.min() for pairs in self._pairs])
        highest = np.array([_highest(pairs) for pairs in self._pairs])
        self._lowest_after = np.append(np.cumsum(lowest[::-1])[::-1], 0.0)
        self._highest_after = np.append(np.cumsum(highest[::-1])[::-1], 0.0)
        if not self._lowest_after[0] <= budget.fraction + ROUNDING:
            smallest = math.ceil(self._lowest_after[0] * 1e6) / 1e6
            raise BudgetError(
                f"budget: got {budget.fraction} of the {budget.cost.name} at 8 bits, the smallest "
                f"reachable is {smallest:.6f}"
            )

    def costs(self, decision: Decision, weight: NDArray[np.int64]) -> NDArray[np.float64]:
        """What each choice adds, shape (N, K), as a fraction of the whole.

        Args:
            decision: which one.
            weight: positions of the layer's weight bits, shape (N,), where they are settled.
        """
        pairs = self._pairs[decision.layer]
        cheapest = pairs.min(1)
        if decision.part == WEIGHT:
            return np.broadcast_to(cheapest, (len(weight), len(cheapest)))
        return np.asarray(pairs[weight] - cheapest[weight, None])

    def feasible(
        self, decision: Decision, spent: NDArray[np.float64], weight: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which choices leave the budget reachable, shape (N, K).

        Args:
            decision: which one.
            spent: what was settled before it costs, shape (N,).
            weight: positions of the layer's weight bits, shape (N,), where they are settled.
        """
        costs = self.costs(decision, weight)
        reached = spent[:, None] + costs + self._lowest_after[decision.layer + 1]
        feasible = np.asarray(reached <= self.budget.fraction + ROUNDING)
        # the cheapest always is; rounding must not say otherwise
        feasible[np.arange(len(costs)), costs.argmin(1)] = True
        return feasible

    def feasible_alone(self, decision: Decision) -> NDArray[np.bool_]:
        """Which choices fit where all others take their cheapest, shape (K,)."""
        row = self._pairs[decision.layer].min(1 if decision.part == WEIGHT else 0)
        others = self._lowest_after[0] - row.min()
        feasible = np.asarray(row + others <= self.budget.fraction + ROUNDING)
        feasible[row.argmin()] = True
        return feasible

    def slack(
        self, decision: Decision, spent: NDArray[np.float64], weight: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """How free the choices from ``decision`` on are, shape (N,), in [0, 1].

        0 where each of them must take its cheapest bits, 1 where each may take its dearest.
        """
        layer = decision.layer
        lowest = np.full_like(spent, self._lowest_after[layer])
        highest = np.full_like(spent, self._highest_after[layer])
        if decision.part == ACTIVATION:
            pairs = self._pairs[layer][weight]
            lowest[:] = self._lowest_after[layer + 1]
            highest = self._highest_after[layer + 1] + _highest(pairs, 1) - pairs.min(1)
        free = highest > lowest
        room = (self.budget.fraction - spent - lowest) / np.where(free, highest - lowest, 1)
        return np.asarray(np.where(free, np.clip(room, 0, 1), 1.0))


def pair_tables(
    cost: Cost, problem: Problem, plan: Plan | None = None
) -> list[NDArray[np.float64]]:
    """For each layer the cost of each pair of weight bits (rows) and activation bits (columns).

    As fractions of the whole network's cost at 8 bits.

    Args:
        cost: what is counted.
        problem: gives layers and candidates.
        plan: which pairs are allowed; the others are infinite, and the cost is not asked for them,
            as a measured one may not know them. All are asked for when left out.
    """
    names = [spec.name for spec in problem.layers]
    widths = [(problem.candidates[own], problem.activation_candidates[own]) for own in names]
    allowed = plan.allowed if plan else [np.ones([len(own) for own in two], bool) for two in widths]
    options = {
        name: [
            LayerBits(two[0][weight], two[1][activation]) for weight, activation in np.argwhere(own)
        ]
        for name, two, own in zip(names, widths, allowed, strict=True)
    }
    tables = [np.full(own.shape, np.inf) for own in allowed]
    rows = layer_table(cost, problem.layers, options)
    for table, own, row in zip(tables, allowed, rows, strict=True):
        table[own] = row
    return tables


def _highest(pairs: NDArray[np.float64], axis: int | None = None) -> NDArray[np.float64]:
    """The largest cost among the allowed pairs."""
    return np.asarray(np.where(np.isfinite(pairs), pairs, -np.inf).max(axis))
