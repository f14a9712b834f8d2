"""Which of many choices are worth their cost; free of torch."""

import numpy as np
from numpy.typing import NDArray


def pareto(costs: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The choices that no other beats in both cost and value, by ascending cost.

    Of several that are equal in both, the first.

    Args:
        costs: shape (A,).
        values: shape (A,).
    """
    order = np.lexsort((np.arange(len(costs)), -values, costs))
    sorted_values = values[order]
    best_before = np.append(-np.inf, np.maximum.accumulate(sorted_values)[:-1])
    return np.asarray(order[sorted_values > best_before])


def concave_hull(costs: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The choices between which mixing at random is best, by ascending cost.

    They are the corners of the upper concave hull of value against cost, from the cheapest choice
    to the best; along them each unit of cost brings less than the one before.

    Args:
        costs: shape (A,).
        values: shape (A,).
    """
    corners: list[int] = []
    for place in pareto(costs, values).tolist():
        while len(corners) > 1 and not _bends_down(costs, values, (*corners[-2:], place)):
            corners.pop()
        corners.append(place)
    return np.array(corners, np.int64)


def _bends_down(
    costs: NDArray[np.float64], values: NDArray[np.float64], places: tuple[int, ...]
) -> bool:
    """Whether the middle one of three lies above the line between the others."""
    first, middle, last = places
    run, rise = costs[last] - costs[first], values[last] - values[first]
    return bool((values[middle] - values[first]) * run > (costs[middle] - costs[first]) * rise)
