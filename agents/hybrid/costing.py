"""What decisions cost, the controller's own work included."""

import numpy as np
import torch
from torch import Tensor

from agents.hybrid.policy import BitPolicy
from dqmq_env.costs import Cost, layer_table, reference
from dqmq_env.quantization.network import QuantizedNetwork


class Costing:
    """The cost of decisions, as fractions of the network's cost at 8 bits.

    Args:
        cost: what is counted.
        network: gives layers and candidates.
        policy: its own cost is added for each image, where BOPs are counted.

    Attributes:
        tables: cost of each layer at each of its options.
        controller: cost of the policy.
        pinned: the part that no decision changes: layers without a choice, and the controller.
        lowest_after: for each decision, the least that all later ones can cost.
    """

    def __init__(self, cost: Cost, network: QuantizedNetwork, policy: BitPolicy) -> None:
        specs = network.specs
        self.tables = [
            torch.tensor(row, dtype=torch.float32)
            for row in layer_table(cost, specs, network.options)
        ]
        self.controller = policy.bops() / reference(cost, specs) if cost.name == "bops" else 0.0
        self.pinned = self.controller + sum(float(row[0]) for row in self.tables if len(row) == 1)
        least = [float(row.min()) for row in self.choices]
        self.lowest_after = [sum(least[number + 1 :]) for number in range(len(least))]

    @property
    def choices(self) -> list[Tensor]:
        """The tables of the layers that leave a choice, in forward order."""
        return [row for row in self.tables if len(row) > 1]

    @property
    def of_network(self) -> Tensor:
        """What all decisions cost where each takes the first, second, ... width, shape (K,)."""
        return torch.stack(self.choices).sum(0)

    def uniform(self, widths: int) -> list[float]:
        """The cost with every decision at the first, second, ... of so many widths."""
        return [self.pinned + sum(float(row[k]) for row in self.choices) for k in range(widths)]

    def uniform_bits(self, budget: float, widths: tuple[int, ...]) -> float:
        """The uniform, fractional number of bits whose cost is the budget."""
        costs = self.uniform(len(widths))
        return float(np.interp(np.sqrt(budget), np.sqrt(costs), widths))
