"""What a sensitivity recommends under the task's budget and under smaller ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from baselines.ilp import solve
from dqmq_env.search.proposals import Proposals
from dqmq_env.search.space import Places, Space


def sweep(space: Space, sensitivity: Sequence[NDArray[np.float64]], budgets: int) -> list[Places]:
    """The assignments of least sensitivity under several budgets, the largest first, each once.

    The budgets are spread evenly in their logarithm, from the task's, or from what the widest bits
    cost where that is less, down to what the cheapest bits cost. A task that rewards compression
    is best served by one in between, and which one only an evaluation can tell.

    Args:
        space: gives costs and the task's budget.
        sensitivity: of each option of each decided layer.
        budgets: how many; of a single one, the largest.
    """
    lowest = space.cost(space.narrowest())
    highest = max(lowest, min(space.budget, space.cost(space.widest())))
    found: dict[tuple[int, ...], Places] = {}
    for budget in np.geomspace(highest, lowest, budgets).tolist():
        places = solve(sensitivity, space.costs, budget - space.fixed)
        found.setdefault(tuple(places.tolist()), places)
    return list(found.values())


def propose_each(space: Space, assignments: Sequence[Places]) -> Proposals:
    """Proposes some assignments, one after another."""
    for places in assignments:
        yield space.assignment(places)
    return None
