"""The policy network: from image quality and activations to a distribution over bits."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.hybrid.eight_bits import MAC_BOPS
from agents.hybrid.heads import HEADS, Drawn
from agents.hybrid.modulation import Modulation
from agents.hybrid.settings import HybridSettings
from agents.hybrid.view import Describe, Look, Scene, View
from dqmq_env.costs import Bops, reference
from dqmq_env.quality import describe
from dqmq_env.quantization.choice import Chooser
from dqmq_env.quantization.network import QuantizedNetwork


class BitPolicy(nn.Module):
    """A view shared by all decisions, and a distribution for each, moved by what is seen.

    It starts at the uniform bits that spend the budget, whatever the images.

    Args:
        view: what it sees.
        distribution: a name of :data:`~agents.hybrid.heads.HEADS`.
        widths: candidate bits of each layer, ascending.
        decisions: D, number of layers that are decided.
        budgets: lowest and highest budget that it is for.
        ladder: places of all layers' widths, of each rung, shape (K, D), where one decision,
            between rungs, holds for all layers; without it each is decided, between its widths.
        modulation: makes grids follow the image, where they do.

    Attributes:
        modulation: see above.
        once: whether one decision holds for all layers.
        rungs: places of all layers' widths where each decision is the first, second, ..., (K, D).
        levels: K numbers of bits, ascending, that a decision is between.
    """

    anchors: Tensor
    shift: Tensor
    raises: Tensor

    def __init__(
        self,
        view: View,
        distribution: str,
        widths: Sequence[int],
        decisions: int,
        budgets: tuple[float, float],
        ladder: Sequence[Sequence[int]] | None = None,
        modulation: Modulation | None = None,
    ) -> None:
        super().__init__()
        self.view = view
        self.modulation = modulation
        self.decisions = decisions
        self.budgets = budgets
        self.once = ladder is not None
        self.rungs = torch.tensor(ladder or ladder_of(len(widths), [1.0] * decisions))
        self.levels = tuple(float(row.mean()) for row in torch.tensor(widths).float()[self.rungs])
        self._drawn = 1 if self.once else decisions
        self.head = HEADS[distribution](self._drawn, self.levels, view.size)
        self.register_buffer("anchors", torch.zeros(len(self.knots)))
        self.register_buffer("shift", torch.zeros(len(self.knots)))
        self.register_buffer("raises", torch.zeros(len(self.knots), self._drawn))

    @property
    def knots(self) -> tuple[float, ...]:
        """Budgets, ascending, between which all that depends on the budget is interpolated."""
        low, high = self.budgets
        if low == high:
            return (high,)
        return tuple(low * (high / low) ** (k / (_KNOTS - 1)) for k in range(_KNOTS))

    def place(self, budget: Tensor) -> Tensor:
        """Where budgets (G,) lie on a logarithmic scale: -1 for the lowest learned to 1, (G,)."""
        low, high = self.budgets
        if low == high:
            return torch.zeros_like(budget)
        share = (budget / low).log() / math.log(high / low)
        return (2 * share - 1).clamp(-1, 1)

    def shares(self, budget: Tensor) -> Tensor:
        """How near budgets (G,) are to each knot, rows summing to one, shape (G, knots)."""
        count = len(self.knots)
        position = (self.place(budget) + 1) / 2 * (count - 1)
        numbers = torch.arange(count, device=budget.device)
        return (1 - (position[:, None] - numbers).abs()).clamp_min(0)

    def draw(
        self,
        decision: int,
        look: Look,
        budget: Tensor,
        memory: Tensor | None,
        temperature: float,
        generator: torch.Generator | None = None,
        allowed: Tensor | None = None,
    ) -> tuple[Drawn, Tensor | None]:
        """A decision for each group, and what is to be remembered.

        Args:
            decision: its number, from 0; where one holds for all, that one whatever the number.
            look: what is looked at.
            budget: of each group, as a fraction of the cost at 8 bits, shape (G,).
            memory: what was remembered; ``None`` at the first decision.
            temperature: of the distribution.
            generator: draws; without it the most probable width is taken.
            allowed: what a group may take, bool, shape (G, K); all when left out.
        """
        decision = 0 if self.once else decision
        seen, memory = self.view.embed(decision, look, self.place(budget), memory)
        moved = self.anchors + self.shift + self.raises[:, decision]
        start = self.shares(budget) @ moved
        drawn = self.head.draw(decision, seen, start, temperature, generator, allowed)
        return drawn, memory

    def places(self, number: int, sample: Tensor) -> Tensor:
        """Which of its widths a layer gets where ``sample`` (G,) was drawn, int64 (G,).

        Args:
            number: of the layer, from 0, among those that are decided.
            sample: what was drawn for it, or for all layers.
        """
        return self.rungs[:, number].to(sample.device)[sample] if self.once else sample

    def scene(self, images: Tensor, groups: int, described_by: Describe = describe) -> Scene:
        """What is seen of uint8 images (N, C, H, W), of which consecutive ones form G groups."""
        return self._widest.scene(images, groups, described_by)

    def around(self, chooser: Chooser, scene: Scene) -> Chooser:
        """A chooser of bits, with what else of the layers follows the image.

        Args:
            chooser: of bits.
            scene: what is seen of the images.
        """
        return chooser if self.modulation is None else self.modulation.around(chooser, scene)

    def folded(self, network: QuantizedNetwork) -> "BitPolicy":
        """The policy for a network whose batch norms have been folded."""
        if self.modulation is None:
            return self
        found = copy.deepcopy(self)
        found.modulation = self.modulation.folded(network)
        return found

    def deciding(self) -> list[nn.Parameter]:
        """The parameters that decide about bits."""
        others = () if self.modulation is None else self.modulation.parameters()
        left_out = {id(own) for own in others}
        return [own for own in self.parameters() if id(own) not in left_out]

    def bops(self) -> int:
        """Bit operations for all decisions about one image, as 8-bit multiply-accumulates."""
        numbers = 1 if hasattr(self.head, "location") else len(self.levels)
        total = self._widest.scene_bops() + self.view.bops()
        total += self._drawn * self.view.size * numbers * MAC_BOPS
        return total + (0 if self.modulation is None else self.modulation.bops())

    @property
    def _widest(self) -> View:
        """The view that looks at all of the image that any does."""
        return self.view if self.modulation is None else self.modulation.view


_KNOTS = 8


def decided_layers(network: QuantizedNetwork) -> list[int]:
    """Indices of the layers that leave a choice, in forward order."""
    return [layer.index for layer in network.layers if len(layer.options) > 1]


def ladder_of(widths: int, costs: Sequence[float], parts: int = 1) -> list[list[int]]:
    """Places of each layer's width on each rung, from the lowest width to the highest.

    Between two widths, layers are raised in parts of as many layers as can be. Those at which a bit
    is cheap come first, so that a budget raises as many as it can; of equal cost the later ones do:
    what is rounded late has no layers after it to make up for it.

    Args:
        widths: number of widths.
        costs: what a bit costs in each of D layers, above zero, in any unit.
        parts: P, rungs from one width to the next, D at most; with 1, all layers are alike.

    Returns:
        Shape (P (widths - 1) + 1, D).
    """
    count = len(costs)
    parts = min(parts, count)
    last_first = sorted(range(count), key=lambda layer: (-costs[layer], layer))
    part = {layer: rank * parts // count for rank, layer in enumerate(last_first)}
    rungs = range(parts * (widths - 1) + 1)
    return [[(rung + part[layer]) // parts for layer in range(count)] for rung in rungs]


def make_policy(network: QuantizedNetwork, settings: HybridSettings, granularity: str) -> BitPolicy:
    """A policy with fresh weights, as training over a network begins with.

    Args:
        network: gives layers and candidates.
        settings: of the training.
        granularity: what bits follow; ``static`` sees nothing of the images.
    """
    decided, once = decided_layers(network), settings.decides == "network"
    low, high = settings.budgets
    sees = () if granularity == "static" else settings.sees
    view = View(
        network.specs[0].input_shape,
        [network.specs[index] for index in (decided[:1] if once else decided)],
        sees if "bits" in settings.follow else (),
        settings.embedding,
        # a value is the same whatever the budget, which sets its price
        budget=low != high and settings.distribution != "value",
    )
    widths = network.layers[decided[0]].widths
    costs = [network.specs[index].macs for index in decided]
    ladder = ladder_of(len(widths), costs, settings.ladder) if once else None
    modulation = None
    if sees and "grids" in settings.follow:
        most = settings.grid_share * low * reference(Bops(), network.specs)
        modulation = Modulation(network, sees, settings.embedding, most)
    return BitPolicy(
        view, settings.distribution, widths, len(decided), (low, high), ladder, modulation
    )
