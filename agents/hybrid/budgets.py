"""The budgets that one run learns, and the knots between which what depends on them is read off."""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

FEW: Final = 8
"""Knots where each of them takes images, or gradients."""
MANY: Final = 64
"""Knots where none of them does, so that budgets between two are met as those at one are."""


@dataclass(frozen=True)
class BudgetRange:
    """Budgets from a lowest to a highest, as fractions of the BOPs at 8 bits.

    Attributes:
        lowest: of all.
        highest: of all; there is one budget where it is the lowest, too.
        count: knots of a true range, two and more.
    """

    lowest: float
    highest: float
    count: int = FEW

    @property
    def knots(self) -> tuple[float, ...]:
        """Budgets, ascending, evenly on a logarithmic scale; one where there is but one."""
        if self.lowest == self.highest:
            return (self.highest,)
        ratio, last = self.highest / self.lowest, self.count - 1
        return tuple(self.lowest * ratio ** (knot / last) for knot in range(self.count))

    def place(self, budget: Tensor) -> Tensor:
        """Where budgets (G,) lie on a logarithmic scale: -1 for the lowest to 1, (G,)."""
        if self.lowest == self.highest:
            return torch.zeros_like(budget)
        share = (budget / self.lowest).log() / math.log(self.highest / self.lowest)
        return (2 * share - 1).clamp(-1, 1)

    def drawn(self, groups: int, generator: torch.Generator) -> Tensor:
        """A budget for each group, one in each of as many equal parts of the range, (G,).

        Args:
            groups: G.
            generator: nothing is drawn where there is but one budget.
        """
        if self.lowest == self.highest:
            return torch.full((groups,), self.highest)
        parts = torch.randperm(groups, generator=generator)
        share = (parts + torch.rand(groups, generator=generator)) / groups
        return self.lowest * torch.pow(self.highest / self.lowest, share)

    def shares(self, budget: Tensor) -> Tensor:
        """How near budgets (G,) are to each knot, rows summing to one, shape (G, knots)."""
        count = len(self.knots)
        position = (self.place(budget) + 1) / 2 * (count - 1)
        numbers = torch.arange(count, device=budget.device)
        return (1 - (position[:, None] - numbers).abs()).clamp_min(0)
