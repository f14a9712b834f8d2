"""The policy network: from image quality and activations to a distribution over bits."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from agents.hybrid.budgets import FEW, MANY, BudgetRange
from agents.hybrid.eight_bits import MAC_BOPS
from agents.hybrid.eyes import Describe, Eyes, Scene
from agents.hybrid.grids import Grids, make_grids
from agents.hybrid.heads import HEADS, Drawn
from agents.hybrid.ladder import Ladder
from agents.hybrid.layer_costs import LayerCosts
from agents.hybrid.settings import HybridSettings
from agents.hybrid.view import Look, View
from dqmq_env.costs import Bops, reference
from dqmq_env.quality import describe
from dqmq_env.quantization.network import QuantizedNetwork


class BitPolicy(nn.Module):
    """A view shared by all decisions, and a distribution for each, moved by what is seen.

    It starts at the uniform bits that spend the budget, whatever the images.

    Args:
        view: what it sees.
        distribution: a name of :data:`~agents.hybrid.heads.HEADS`.
        widths: candidate bits of each layer, ascending.
        decisions: D, number of layers that are decided.
        budgets: that it is for; start, shift and raises are interpolated between their knots.
        ladder: where one decision, between its K rungs, holds for all layers; without it each is
            decided, between its widths.
        grids: make grids follow the image, where they do.

    Attributes:
        grids: see above.
        eyes: they look at all of an image that anything follows.
        widths: candidate bits of each layer, ascending.
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
        budgets: BudgetRange,
        ladder: Ladder | None = None,
        grids: Grids | None = None,
    ) -> None:
        super().__init__()
        self.view = view
        self.grids = grids or Grids()
        self.eyes = Eyes(view.shape, view.sees | self.grids.sees)
        self.widths, self.decisions = tuple(widths), decisions
        self.budgets = budgets
        self.once = ladder is not None
        rungs = ladder or Ladder.by_cost(widths, [1.0] * decisions)
        self.rungs, self.levels = torch.tensor(rungs.rungs), rungs.levels
        self._drawn = 1 if self.once else decisions
        self.head = HEADS[distribution](self._drawn, self.levels, view.size)
        self.register_buffer("anchors", torch.zeros(len(budgets.knots)))
        self.register_buffer("shift", torch.zeros(len(budgets.knots)))
        self.register_buffer("raises", torch.zeros(len(budgets.knots), self._drawn))

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
        seen, memory = self.view.embed(decision, look, self.budgets.place(budget), memory)
        moved = self.anchors + self.shift + self.raises[:, decision]
        start = self.budgets.shares(budget) @ moved
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
        return self.eyes.scene(images, groups, described_by)

    def folded(self, network: QuantizedNetwork) -> "BitPolicy":
        """The policy for a network whose batch norms have been folded."""
        found = copy.deepcopy(self)
        found.grids = self.grids.folded(network)
        return found

    def deciding(self) -> list[nn.Parameter]:
        """The parameters that decide about bits."""
        left_out = {id(own) for own in self.grids.parameters()}
        return [own for own in self.parameters() if id(own) not in left_out]

    def bops(self) -> int:
        """Bit operations for all decisions about one image, as 8-bit multiply-accumulates."""
        numbers = 1 if hasattr(self.head, "location") else len(self.levels)
        total = self.eyes.bops() + self.view.bops() + self.grids.bops()
        return total + self._drawn * self.view.size * numbers * MAC_BOPS


def decided_layers(network: QuantizedNetwork) -> list[int]:
    """Indices of the layers that leave a choice, in forward order."""
    return [layer.index for layer in network.layers if len(layer.options) > 1]


def make_policy(network: QuantizedNetwork, settings: HybridSettings, granularity: str) -> BitPolicy:
    """A policy with fresh weights, as training over a network begins with.

    Args:
        network: gives layers and candidates.
        settings: of the training.
        granularity: what bits follow; ``static`` sees nothing of the images.
    """
    decided, once = decided_layers(network), settings.decides == "network"
    # where what images cost is told by one look at each, or by none, knots take no passes
    told = settings.hold == "mean" if once else granularity == "static"
    budgets = BudgetRange(*settings.budgets, MANY if told else FEW)
    sees = () if granularity == "static" else settings.sees
    view = View(
        network.specs[0].input_shape,
        [network.specs[index] for index in (decided[:1] if once else decided)],
        sees if "bits" in settings.follow else (),
        settings.embedding,
        # a value is the same whatever the budget, which sets its price
        budget=settings.lowest_budget is not None and settings.distribution != "value",
    )
    grids = make_grids(network, settings, sees)
    widths = network.layers[decided[0]].widths
    ladder = None
    if once:
        macs = [network.specs[index].macs for index in decided]
        ladder = Ladder.by_cost(widths, macs, settings.ladder)
        if not view.size:  # bits are the same for all images, and are to spend the budget
            looks = Eyes(view.shape, grids.sees).bops() + grids.bops()
            costs = LayerCosts(Bops(), network, looks / reference(Bops(), network.specs))
            for budget in replace(budgets, count=FEW).knots:
                ladder = ladder.topped_up(costs.at, budget)
    return BitPolicy(view, settings.distribution, widths, len(decided), budgets, ladder, grids)
