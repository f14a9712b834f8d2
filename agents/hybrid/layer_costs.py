"""What the layers of a network cost at each of their options."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dqmq_env.costs import Cost, layer_table
from dqmq_env.quantization.network import QuantizedNetwork


class LayerCosts:
    """The cost of bits for all layers, as fractions of the network's cost at 8 bits.

    Args:
        cost: what is counted.
        network: gives layers and candidates.
        beside: cost of what is done beside the layers.

    Attributes:
        tables: cost of each layer at each of its options.
        pinned: the part that no decision changes: layers without a choice, and what is beside them.
    """

    def __init__(self, cost: Cost, network: QuantizedNetwork, beside: float) -> None:
        self.tables = [
            torch.tensor(row, dtype=torch.float32)
            for row in layer_table(cost, network.specs, network.options)
        ]
        self.pinned = beside + sum(float(row[0]) for row in self.tables if len(row) == 1)

    @property
    def choices(self) -> list[Tensor]:
        """The tables of the layers that leave a choice, in forward order."""
        return [row for row in self.tables if len(row) > 1]

    def at(self, places: Sequence[int]) -> float:
        """The cost with the layers that leave a choice at their options of these places."""
        own = zip(self.choices, places, strict=True)
        return self.pinned + sum(float(row[place]) for row, place in own)
