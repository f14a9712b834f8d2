"""What decisions cost, the controller's own work included."""

from bisect import bisect_left, bisect_right

import numpy as np

from agents.hybrid.layer_costs import LayerCosts
from agents.hybrid.policy import BitPolicy
from dqmq_env.costs import Cost, reference
from dqmq_env.quantization.network import QuantizedNetwork


class Costing(LayerCosts):
    """The cost of decisions, as fractions of the network's cost at 8 bits.

    Args:
        cost: what is counted.
        network: gives layers and candidates.
        policy: its own cost is added for each image, where BOPs are counted.

    Attributes:
        controller: cost of the policy.
        lowest_after: for each decision, the least that all later ones can cost.
        of_network: the whole, where each decision is the first, second, ... of the policy's rungs.
    """

    def __init__(self, cost: Cost, network: QuantizedNetwork, policy: BitPolicy) -> None:
        bops = cost.name == "bops"
        self.controller = policy.bops() / reference(cost, network.specs) if bops else 0.0
        super().__init__(cost, network, self.controller)
        least = [float(row.min()) for row in self.choices]
        self.lowest_after = [sum(least[number + 1 :]) for number in range(len(least))]
        self.of_network = [self.at(places) for places in policy.rungs.tolist()]
        self._levels = policy.levels
        self._widths = policy.widths

    @property
    def as_uniform(self) -> list[float]:
        """For each rung, the fractional number of bits that costs as much in all layers."""
        count = len(self.choices)
        costs = [self.at([place] * count) for place in range(len(self._widths))]
        found: list[float] = np.interp(self.of_network, costs, self._widths).tolist()
        return found

    def within(self, budgets: tuple[float, float], reach: int | None) -> list[int]:
        """Rungs that are so many steps from a range of budgets at most; all without ``reach``.

        Args:
            budgets: lowest and highest.
            reach: with 1, no further than the rung below and the one above; they are one where a
                budget is spent to the last.
        """
        count = len(self.of_network)
        if reach is None:
            return list(range(count))
        below = bisect_right(self.of_network, budgets[0]) - 1
        above = bisect_left(self.of_network, budgets[1])
        return list(range(max(0, below + 1 - reach), min(count, above + reach)))

    def level_of(self, budget: float) -> float:
        """The fractional number of bits, between two levels of the policy, that a budget buys."""
        return float(np.interp(np.sqrt(budget), np.sqrt(self.of_network), self._levels))
