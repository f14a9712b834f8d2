"""The multiplier that holds the budget, one for each of several budgets."""

import torch
from torch import Tensor


class Multiplier:
    """An augmented Lagrangian on the relative excess of the expected cost.

    With ``E_g = cost_g / budget_g - 1`` for each group g, and S_gk how near its budget is to knot k
    (rows summing to one), the term is ::

        mean_g (sum_k S_gk m_k) E_g + penalty / 2 * sum_k share_k * (mean over g by S_gk of E_g)^2

    with share_k the mean of S_gk, and after each step ``m_k`` becomes
    ``max(0, m_k + rate * share_k * knots * (mean over g by S_gk of E_g))``. With one knot that is
    ``m * E + penalty / 2 * E^2`` with E the mean excess.

    Args:
        knots: number of budgets.
        rate: step of the multipliers.
        penalty: weight of the squared excess.

    Attributes:
        values: m, shape (knots,).
    """

    def __init__(self, knots: int, rate: float, penalty: float) -> None:
        self.values = torch.zeros(knots)
        self._rate, self._penalty = rate, penalty
        self._excess = torch.zeros(knots)

    def term(self, cost: Tensor, budget: Tensor, shares: Tensor) -> Tensor:
        """What is added to the loss.

        Args:
            cost: expected, of each group, shape (G,).
            budget: of each group, shape (G,).
            shares: how near the budget is to each knot, shape (G, knots).
        """
        excess = cost / budget - 1
        weight = shares.mean(0)
        by_knot = (shares * excess[:, None]).mean(0)
        self._excess = by_knot.detach().cpu() * len(self.values)
        held = (shares @ self.values.to(cost) * excess).mean()
        squared = (by_knot.square() / weight.clamp_min(1e-6)).sum()
        return held + self._penalty / 2 * squared

    def update(self) -> None:
        """Move the multipliers by the excess that was last seen."""
        self.values = (self.values + self._rate * self._excess).clamp_min(0)
