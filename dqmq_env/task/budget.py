"""A hard budget: which candidates leave it reachable."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dqmq_env.costs import Cost, layer_table
from dqmq_env.errors import BudgetError
from dqmq_env.problem.protocol import Problem

_ROUNDING = 1e-12


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

    Args:
        problem: gives layers and candidates.
        budget: the bound.

    Raises:
        BudgetError: not even the lowest bits everywhere keep to the budget.
    """

    def __init__(self, problem: Problem, budget: Budget) -> None:
        self.budget = budget
        self._table = layer_table(budget.cost, problem.layers, problem.candidates)
        lowest = np.array([row.min() for row in self._table])
        highest = np.array([row.max() for row in self._table])
        self._lowest_after = np.append(np.cumsum(lowest[::-1])[::-1], 0.0)
        self._highest_after = np.append(np.cumsum(highest[::-1])[::-1], 0.0)
        if not self._lowest_after[0] <= budget.fraction + _ROUNDING:
            smallest = math.ceil(self._lowest_after[0] * 1e6) / 1e6
            raise BudgetError(
                f"budget: got {budget.fraction} of the {budget.cost.name} at 8 bits, the smallest "
                f"reachable is {smallest:.6f}"
            )

    def costs(self, layer: int) -> NDArray[np.float64]:
        """The cost of each candidate of a layer, shape (K,), as a fraction of the whole."""
        return self._table[layer]

    def feasible(self, layer: int, spent: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which candidates of a layer leave the budget reachable, shape (N, K).

        Args:
            layer: its index in forward order.
            spent: what the layers before it cost, shape (N,).
        """
        reached = spent[:, None] + self._table[layer][None, :] + self._lowest_after[layer + 1]
        feasible = np.asarray(reached <= self.budget.fraction + _ROUNDING)
        feasible[:, 0] = True  # the lowest bits always do; rounding must not say otherwise
        return feasible

    def feasible_alone(self, layer: int) -> NDArray[np.bool_]:
        """Which candidates of a layer fit where all other layers take their lowest, shape (K,)."""
        row = self._table[layer]
        others = self._lowest_after[0] - row.min()
        feasible = np.asarray(row + others <= self.budget.fraction + _ROUNDING)
        feasible[0] = True
        return feasible

    def slack(self, layer: int, spent: NDArray[np.float64]) -> NDArray[np.float64]:
        """How free the choices from ``layer`` on are, shape (N,), in [0, 1].

        0 where each of them must take its lowest bits, 1 where each may take its highest.
        """
        lowest, highest = self._lowest_after[layer], self._highest_after[layer]
        if highest <= lowest:
            return np.ones_like(spent)
        return np.asarray(
            np.clip((self.budget.fraction - spent - lowest) / (highest - lowest), 0, 1)
        )
