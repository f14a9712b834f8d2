"""What images cost on average under a policy without draws, found with as few passes as can be."""

from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor

from agents.hybrid.deployed import DynamicNetwork
from agents.hybrid.view import blind_look, joined

_STEP = 0.05
"""Bits by which a decision is raised at a time."""


class AverageCost:
    """The images pass through the network each time.

    Args:
        dynamic: a network with its policy.
        batches: images of the training mixture, uint8, each (N, C, H, W).

    Attributes:
        images: passed through the network so far, counting each time.
    """

    def __init__(self, dynamic: DynamicNetwork, batches: Sequence[Tensor]) -> None:
        self._dynamic, self._batches = dynamic, batches
        self.images = 0

    def mean(self) -> float:
        """The average at the network's budget, as a fraction of the cost at 8 bits."""
        self.images += sum(len(images) for images in self._batches)
        return self._dynamic.mean_cost(self._batches)

    def spend_rest(self, knot: int) -> None:
        """Spend what a shift of all decisions leaves of a budget that is met from below.

        Args:
            knot: number of the budget, the network's.
        """


class _OneLook(AverageCost):
    """One look is all that costs follow from: the images pass once, if at all."""

    def __init__(self, dynamic: DynamicNetwork, batches: Sequence[Tensor]) -> None:
        super().__init__(dynamic, batches)
        found = [dynamic.look(images) for images in batches]
        self._look = joined([look for look, _ in found])
        self.images = sum(passed for _, passed in found)

    def mean(self) -> float:
        """See :class:`AverageCost`."""
        return self._dynamic.cost_of(self._look)


class _Blind(AverageCost):
    """The policy sees nothing and decides about each layer: no image tells anything.

    Its bits are the same for all images, so that a shift of all decisions together moves the cost
    in steps, which leave up to a tenth of a budget unspent. Single decisions are then raised as
    long as the budget is kept; the one that is nearest to its next width is raised first.
    """

    def mean(self) -> float:
        """See :class:`AverageCost`."""
        return self._dynamic.costing.at(self._places())

    @torch.no_grad()
    def spend_rest(self, knot: int) -> None:
        """See :class:`AverageCost`."""
        policy, costing = self._dynamic.policy, self._dynamic.costing
        highest = len(policy.levels) - 1
        reach = round((policy.levels[-1] - policy.levels[0] + 1) / _STEP)
        places = self._places()
        while True:
            nearest: tuple[int, int] | None = None
            for decision, own in enumerate(places):
                raised = [*places[:decision], own + 1, *places[decision + 1 :]]
                if own == highest or costing.at(raised) > self._dynamic.budget:
                    continue
                before = float(policy.raises[knot, decision])

                def after(steps: int, decision: int = decision, before: float = before) -> int:
                    """The place of the decision when it is raised so often."""
                    policy.raises[knot, decision] = before + steps * _STEP
                    return self._place(decision)

                steps = range(1, nearest[0] if nearest else reach + 1)
                first = bisect_left(steps, own + 1, key=after)
                if first < len(steps) and after(steps[first]) == own + 1:
                    nearest = (steps[first], decision)
                policy.raises[knot, decision] = before
            if nearest is None:
                return
            number, decision = nearest
            policy.raises[knot, decision] += number * _STEP
            places[decision] += 1

    def _places(self) -> list[int]:
        """The most probable width of each decision, as its place."""
        return [self._place(decision) for decision in range(self._dynamic.policy.decisions)]

    @torch.no_grad()
    def _place(self, decision: int) -> int:
        """The same of one; none depends on another."""
        policy = self._dynamic.policy
        blind, at = blind_look(policy.shift), policy.shift.new_full((1,), self._dynamic.budget)
        drawn, _ = policy.draw(decision, blind, at, None, self._dynamic.temperature)
        return int(drawn.sample)


def average_cost(dynamic: DynamicNetwork, batches: Sequence[Tensor]) -> AverageCost:
    """The average cost of images under a network's policy, in the way that takes fewest passes.

    Args:
        dynamic: see :class:`AverageCost`.
        batches: see :class:`AverageCost`.
    """
    if dynamic.looks_once:
        return _OneLook(dynamic, batches)
    if dynamic.granularity == "static" and not dynamic.policy.once:
        return _Blind(dynamic, batches)
    return AverageCost(dynamic, batches)
