"""Rungs from the lowest bits of all layers to the highest, that one decision is between."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ladder:
    """Bits of D layers, in K rungs, each dearer than the one before.

    Attributes:
        rungs: place of the width of each layer among its widths, shape (K, D).
        levels: K numbers of bits, ascending, that stand for the rungs.
    """

    rungs: tuple[tuple[int, ...], ...]
    levels: tuple[float, ...]

    @classmethod
    def by_cost(cls, widths: Sequence[int], costs: Sequence[float], parts: int = 1) -> "Ladder":
        """Between two widths, layers are raised in parts of as many layers as can be.

        Those at which a bit is cheap come first, so that a budget raises as many as it can; of
        equal cost the later ones do: what is rounded late has no layers after it to make up for it.
        A rung's level is the mean of its widths.

        Args:
            widths: of each layer, ascending.
            costs: what a bit costs in each of D layers, above zero, in any unit.
            parts: P, rungs from one width to the next, D at most; with 1, all layers are alike.

        Returns:
            One of P (len(widths) - 1) + 1 rungs.
        """
        count = len(costs)
        parts = min(parts, count)
        last_first = sorted(range(count), key=lambda layer: (-costs[layer], layer))
        part = {layer: rank * parts // count for rank, layer in enumerate(last_first)}
        numbers = range(parts * (len(widths) - 1) + 1)
        rungs = tuple(tuple((n + part[own]) // parts for own in range(count)) for n in numbers)
        means = tuple(sum(widths[place] for place in rung) / count for rung in rungs)
        return cls(rungs, means)

    def topped_up(self, cost_of: Callable[[Sequence[int]], float], budget: float) -> "Ladder":
        """The same with a rung between those next to a budget, which spends as much as can be.

        From the rung below, one layer after another is raised for as long as the budget is kept,
        also beyond the width that the rung above has: of those whose raise fits, the one of the
        lowest width, of these the one whose raise is cheapest, of these the last. The level of the
        new rung lies between the levels of the other two as its cost lies between theirs.

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
        while True:
            fitting = []
            for layer, place in enumerate(places):
                if place < highest[layer]:
                    cost = cost_of([*places[:layer], place + 1, *places[layer + 1 :]])
                    if cost <= budget:
                        fitting.append((place, cost, -layer))
            if not fitting:
                break
            places[-min(fitting)[2]] += 1
        if tuple(places) == self.rungs[below]:
            return self
        level = float(np.interp(cost_of(places), costs, self.levels))
        above = below + 1
        return Ladder(
            (*self.rungs[:above], tuple(places), *self.rungs[above:]),
            (*self.levels[:above], level, *self.levels[above:]),
        )
