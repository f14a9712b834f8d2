"""Rungs from the lowest bits of all layers to the highest, that one decision is between."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Ladder:
    """Bits of D layers, in K rungs, each dearer than the one before.

    Attributes:
        widths: of each layer, ascending.
        rungs: place of the width of each layer among its widths, shape (K, D).
        levels: K numbers of bits, ascending, that stand for the rungs.
    """

    widths: tuple[int, ...]
    rungs: tuple[tuple[int, ...], ...]
    levels: tuple[float, ...]

    @classmethod
    def by_cost(cls, widths: Sequence[int], costs: Sequence[float], parts: int = 1) -> "Ladder":
        """Layers are raised one by one, first where rounding loses most for what a bit costs.

        The noise of rounding to b bits has a power of 4^-b, so that a bit in one layer is worth as
        much as the next one in a layer where bits are a quarter as dear, as power is allotted to
        channels by reverse water-filling (Cover and Thomas 2006, section 10.3.3). Of equals the
        lower width comes first, then the later layer: what is rounded late has no layers after it
        to make up for it. A rung's level is the mean of its widths.

        Args:
            widths: of each layer, ascending.
            costs: what a bit costs in each of D layers, above zero, in any unit.
            parts: P, rungs from one width to the next, D at most: with D each rung raises one
                layer, with 1 as many as there are.

        Returns:
            One of P (len(widths) - 1) + 1 rungs.
        """
        count = len(costs)
        parts = min(parts, count)
        raises = sorted(
            (_turn((high - low) * costs[layer], low, high, layer), layer)
            for layer in range(count)
            for low, high in pairwise(widths)
        )
        places = [0] * count
        each = [tuple(places)]
        for _, layer in raises:
            places[layer] += 1
            each.append(tuple(places))
        rungs = tuple(each[n * count // parts] for n in range(parts * (len(widths) - 1) + 1))
        means = tuple(sum(widths[place] for place in rung) / count for rung in rungs)
        return cls(tuple(widths), rungs, means)

    def topped_up(self, cost_of: Callable[[Sequence[int]], float], budget: float) -> "Ladder":
        """The same with a rung between those next to a budget, which spends as much as can be.

        From the rung below, one layer after another is raised for as long as the budget is kept,
        also beyond the width that the rung above has, in the order of :meth:`by_cost` among those
        whose raise fits. The level of the new rung lies between the levels of the other two as its
        cost lies between theirs.

        Args:
            cost_of: what the places of all layers cost, in the unit of the budget.
            budget: a bound on the cost; where no rung keeps to it, none is added.
        """
        costs = [cost_of(rung) for rung in self.rungs]
        below = bisect_right(costs, budget) - 1
        if below < 0:
            return self
        highest = self.rungs[-1]
        places = list(self.rungs[below])
        spent = costs[below]
        while True:
            fitting = []
            for layer, place in enumerate(places):
                if place < highest[layer]:
                    cost = cost_of([*places[:layer], place + 1, *places[layer + 1 :]])
                    if cost <= budget:
                        low, high = self.widths[place], self.widths[place + 1]
                        fitting.append((_turn(cost - spent, low, high, layer), layer, cost))
            if not fitting:
                break
            _, layer, spent = min(fitting)
            places[layer] += 1
        if tuple(places) == self.rungs[below]:
            return self
        level = float(np.interp(cost_of(places), costs, self.levels))
        above = below + 1
        return Ladder(
            self.widths,
            (*self.rungs[:above], tuple(places), *self.rungs[above:]),
            (*self.levels[:above], level, *self.levels[above:]),
        )


def _turn(cost: float, low: int, high: int, layer: int) -> tuple[float, int, int]:
    """What raises are ordered by: the cost for each unit of noise that they take away.

    Args:
        cost: of the raise.
        low: bits before it.
        high: bits after it.
        layer: its number.
    """
    return cost / (4.0**-low - 4.0**-high), low, -layer
