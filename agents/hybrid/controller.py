"""The policy at work inside a forward pass: it looks, it chooses, it keeps account."""

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.hybrid.policy import BitPolicy
from dqmq_env.costs import Cost, layer_table, reference
from dqmq_env.evaluation.statistic_table import statistics_bops
from dqmq_env.evaluation.statistics import activation_statistics
from dqmq_env.quality import descriptor_operations
from dqmq_env.quantization.choice import LayerChoice, RelaxedBits
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.spec import LayerSpec

_PIXEL_BITS = 8


class Costing:
    """The expected cost of decisions, as fractions of the network's cost at 8 bits.

    Args:
        cost: what is counted.
        network: gives layers and candidates.
        policy: its own cost is added for each image.
    """

    def __init__(self, cost: Cost, network: QuantizedNetwork, policy: BitPolicy) -> None:
        specs, options = network.specs, network.options
        self.tables = [
            torch.tensor(row, dtype=torch.float32) for row in layer_table(cost, specs, options)
        ]
        self.controller = 0.0
        if cost.name == "bops":
            own = controller_bops(specs, candidates_of_choice(network), policy)
            self.controller = own / reference(cost, specs)

    @property
    def pinned(self) -> float:
        """The part that no decision changes: layers without a choice, and the controller."""
        return self.controller + sum(float(row[0]) for row in self.tables if len(row) == 1)


def candidates_of_choice(network: QuantizedNetwork) -> list[int]:
    """Indices of the layers that leave a choice, in forward order."""
    return [layer.index for layer in network.layers if len(layer.candidates) > 1]


def controller_bops(specs: Sequence[LayerSpec], decided: Sequence[int], policy: BitPolicy) -> int:
    """Bit operations that deciding costs for one image.

    The descriptor works on 8-bit pixels (8 x 8 for each operation), the statistics on 8-bit
    activations, the policy network in float (32 x 32 for each multiply-accumulate).
    """
    channels, height, width = specs[0].input_shape
    looking = descriptor_operations(height, width, channels) * _PIXEL_BITS * _PIXEL_BITS
    statistics = sum(statistics_bops(specs[index].input_shape) for index in decided)
    return looking + statistics + policy.bops()


class Controller:
    """Chooses bits for groups of images while they pass through the network.

    An instance serves one forward pass.

    Args:
        policy: gives probabilities.
        network: the network that is passed through.
        costing: keeps account.
        quality: descriptor of each group, shape (G, 6).
        temperature: of the policy.
        generator: samples candidates; without it the most probable one is taken.
    """

    def __init__(
        self,
        policy: BitPolicy,
        network: QuantizedNetwork,
        costing: Costing,
        quality: Tensor,
        temperature: float,
        generator: torch.Generator | None = None,
    ) -> None:
        self._policy, self._costing, self._quality = policy, costing, quality
        self._temperature, self._generator = temperature, generator
        self._layers = network.layers
        self._decisions = {index: n for n, index in enumerate(candidates_of_choice(network))}
        self.expected_cost = quality.new_full((len(quality),), costing.pinned)
        self.bits = torch.zeros(len(quality), len(self._layers), dtype=torch.int64)

    def __call__(self, index: int, activation: Tensor) -> LayerChoice:
        """Bits of a layer for each group; see :data:`~dqmq_env.quantization.choice.Chooser`."""
        layer = self._layers[index]
        if index not in self._decisions:
            (option,) = layer.options
            self.bits[:, index] = option.weight
            return option
        groups = len(self._quality)
        seen = activation_statistics(activation, layer.activation_range, groups)
        probabilities = self._policy.probabilities(
            self._decisions[index], self._quality, seen, self._temperature
        )
        cost = self._costing.tables[index].to(probabilities)
        self.expected_cost = self.expected_cost + probabilities @ cost
        sample = self._sample(probabilities.detach().cpu())
        self.bits[:, index] = torch.tensor(layer.candidates)[sample]
        return RelaxedBits(probabilities, sample.to(probabilities.device))

    def cost(self) -> Tensor:
        """What the chosen bits cost, controller included, shape (G,)."""
        total = torch.full((len(self.bits),), self._costing.controller)
        for index, layer in enumerate(self._layers):
            bits = self.bits[:, index].contiguous()
            positions = torch.searchsorted(torch.tensor(layer.candidates), bits)
            total += self._costing.tables[index][positions]
        return total

    def _sample(self, probabilities: Tensor) -> Tensor:
        if self._generator is None:
            return probabilities.argmax(1)
        return torch.multinomial(probabilities, 1, generator=self._generator)[:, 0]
