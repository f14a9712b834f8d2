"""The integer programme of HAWQ-V3: one candidate for each decision, under a budget, exactly."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from baselines.knapsack import Menu, Numbers, fill
from dqmq_env.errors import BudgetError, SettingError
from dqmq_env.problem.fronts import pareto

Rows = Sequence[Sequence[float]] | Sequence[Numbers] | Numbers
"""A number for each candidate of each decision: shape (decisions, candidates), or ragged."""

_ROUNDING = 1e-12


def solve(
    sensitivity: Rows, cost: Rows, budget: float, tied: Sequence[Sequence[int]] = ()
) -> NDArray[np.int64]:
    """Choose a candidate for each decision: least sensitivity in all, at most ``budget`` of cost.

    With ``s[d, k]`` the harm that is done where decision ``d`` takes its candidate ``k``, and
    ``c[d, k]`` what that costs, this is (Yao et al. 2021, HAWQ-V3, section 3.4)::

        minimise    sum over d of s[d, k(d)]
        subject to  sum over d of c[d, k(d)] <= budget

    Three layers, each at 2, 4 or 8 bits, whose cost is bits times weights:

    >>> harm = [[0.9, 0.2, 0.0], [0.3, 0.1, 0.0], [2.0, 0.5, 0.0]]
    >>> size = [[200, 400, 800], [200, 400, 800], [20, 40, 80]]
    >>> solve(harm, size, budget=700).tolist()
    [1, 0, 2]

    Where the outputs of the first two are added up, they may have to share their bits:

    >>> solve(harm, size, budget=700, tied=[(0, 1)]).tolist()
    [0, 0, 2]

    Nothing is assumed of the numbers but that they add up: they may be negative, and on any scale.

    It is a knapsack with several choices for each item and is solved as such, by comparing all ways
    that could be the best: the tolerances of a general solver may exceed a hard budget. One
    (``scipy.optimize.milp``) takes over, with a gap of a millionth, only where these ways are too
    many (:func:`~baselines.knapsack.fill`). The budget is kept, and the summed sensitivity is the
    least there is, but for the rounding of floats: 1e-12 of the budget, or of the cheapest choice's
    cost, and 1e-12 of the difference between the most and the least sensitivity. Among choices that
    are as good by this measure, a cheapest one is taken, and of candidates of a decision that are
    equal in both, the first. Equal input gives equal output.

    Args:
        sensitivity: shape (decisions, candidates), or a sequence of rows of different lengths;
            infinite where a candidate is not allowed.
        cost: of the same shape; infinite where a candidate is not allowed.
        budget: bound on the summed cost, in its unit; infinity binds nothing.
        tied: groups of decisions that must take the same candidate; each decision is in one group
            at most.

    Returns:
        The place of the chosen candidate of each decision, shape (decisions,).

    Raises:
        BudgetError: no choice keeps to the budget.
        SettingError: the shapes do not fit, a number is NaN or minus infinity, a decision has no
            candidate that is allowed, or a group repeats a decision, names one that does not exist
            or holds decisions of different numbers of candidates.
    """
    values, costs = _rows("sensitivity", sensitivity), _rows("cost", cost)
    sizes = [len(row) for row in values]
    if [len(row) for row in costs] != sizes:
        raise SettingError(
            f"cost: got rows of {[len(row) for row in costs]} candidates, allowed are rows of "
            f"{sizes} as in sensitivity"
        )
    if math.isnan(budget) or budget == -math.inf:
        raise SettingError(f"budget: got {budget}, allowed are numbers and infinity")
    groups = _groups(tied, sizes)
    harm, unit = _largest(values), _largest(costs)
    values = [row / harm for row in values]
    costs = [row / unit for row in costs]
    places, menus, lowest = [], [], []
    for group in groups:
        value = np.sum([values[decision] for decision in group], 0)
        own = np.sum([costs[decision] for decision in group], 0)
        allowed = np.flatnonzero(np.isfinite(value) & np.isfinite(own))
        if not len(allowed):
            raise SettingError(
                f"sensitivity, cost: no candidate of decisions {group} is finite in both"
            )
        front = allowed[pareto(own[allowed], -value[allowed])]
        places.append(front)
        lowest.append(float(own[front[0]]))
        menus.append(Menu(value[front] - value[front[-1]], own[front] - own[front[0]]))
    bound = budget / unit
    room = bound - math.fsum(lowest)
    room += _ROUNDING * max(abs(bound), math.fsum(map(abs, lowest)))
    if room < 0:
        raise BudgetError(
            f"budget: got {budget}, the smallest reachable cost is {math.fsum(lowest) * unit}"
        )
    found = np.empty(len(sizes), np.int64)
    for group, front, taken in zip(groups, places, fill(menus, room), strict=True):
        found[group] = front[taken]
    return found


def _rows(argument: str, rows: Rows) -> list[Numbers]:
    """The rows as arrays of one dimension, without NaN and minus infinity."""
    if not len(rows):
        raise SettingError(f"{argument}: got no decisions, allowed are one or more")
    found = []
    for decision, row in enumerate(rows):
        own = np.asarray(row, np.float64)
        if own.ndim != 1 or not len(own):
            raise SettingError(
                f"{argument}: got shape {own.shape} for decision {decision}, allowed is "
                "(candidates,), with one or more"
            )
        if np.isnan(own).any() or (own == -np.inf).any():
            raise SettingError(
                f"{argument}: got {own.tolist()} for decision {decision}, allowed are numbers and "
                "infinity"
            )
        found.append(own)
    return found


def _groups(tied: Sequence[Sequence[int]], sizes: list[int]) -> list[list[int]]:
    """The groups of tied decisions, and each other decision as a group of its own."""
    seen: set[int] = set()
    groups = []
    for group in tied:
        members = list(group)
        if not all(own in range(len(sizes)) for own in members):
            raise SettingError(f"tied: got {members}, allowed are 0 to {len(sizes) - 1}")
        if len(set(members)) < len(members) or seen & set(members):
            raise SettingError(f"tied: got {tied}, allowed is each decision once at most")
        if len({sizes[decision] for decision in members}) > 1:
            raise SettingError(
                f"tied: decisions {members} have {[sizes[own] for own in members]} candidates, "
                "allowed is the same number"
            )
        seen |= set(members)
        if members:
            groups.append(members)
    return groups + [[decision] for decision in range(len(sizes)) if decision not in seen]


def _largest(rows: list[Numbers]) -> float:
    """The largest finite number without its sign; 1 where all are zero."""
    return max(float(np.abs(row[np.isfinite(row)]).max(initial=0)) for row in rows) or 1.0
