"""Knapsacks that take one thing of each menu, filled exactly wherever that can be done."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import block_diag, csr_array

from dqmq_env.problem.fronts import concave_hull, pareto

_ROUNDING = 1e-12
_MOST = 5_000_000
_GAP = 1e-6
_HIGHEST = 1e12  # any price gives a bound; one near the rounding of floats only weakens it

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Menu:
    """What there is to choose between, each dearer and less harmful than the one before.

    Attributes:
        harm: descending, 0 or more, shape (candidates,).
        cost: ascending from 0.
    """

    harm: Numbers
    cost: Numbers

    def within(self, room: float) -> "Menu":
        """What costs no more than that."""
        fits = self.cost <= room
        return Menu(self.harm[fits], self.cost[fits])


def fill(menus: Sequence[Menu], room: float) -> list[int]:
    """Take one of each menu: least harm in all, at most ``room`` of cost; of several, the cheapest.

    Menus are gone through one after another. Of the ways to take something of those so far, the
    ones that no other beats in both harm and cost are kept, unless a bound says that they cannot
    end better than a filling that is known. The bound lets what is left of the room be spent at one
    price everywhere, that of the relaxed programme in which mixtures may be taken (Dyer, Riha and
    Walker 1995, A hybrid dynamic programming/branch-and-bound algorithm for the multiple-choice
    knapsack problem). Sums of harm that differ by less than 1e-12 of the most that there can be
    count as equal.

    Where more than five million ways would have to be kept, which needs costs that are multiples of
    nothing and harm that falls in proportion to them, a solver with a gap of a millionth fills all
    but the last millionth of the room instead (HiGHS, by ``scipy.optimize.milp``).

    Args:
        menus: of one candidate or more each.
        room: 0 or more.

    Returns:
        A place in each menu.
    """
    fitting = [menu.within(room) for menu in menus]
    if all(len(menu.cost) == 1 for menu in fitting):
        return [0] * len(menus)
    dearest = math.fsum(menu.cost[-1] for menu in fitting)
    room = min(room, dearest * (1 + _ROUNDING))  # which may be infinite
    most = math.fsum(menu.harm[0] for menu in fitting)
    scaled = [Menu(menu.harm / most, menu.cost / room) for menu in fitting]
    price, known = _relaxed(scaled)
    prices = [menu.harm + price * menu.cost for menu in scaled]
    gaps = [np.partition(own, 1)[1] - own.min() if len(own) > 1 else 0.0 for own in prices]
    order = np.argsort(gaps, kind="stable")[::-1].tolist()
    lowest = np.array([prices[number].min() for number in order])
    after = np.append(np.cumsum(lowest[::-1])[::-1][1:], 0.0)
    limit = known + price + _ROUNDING * (1 + price)
    taken = _walk([scaled[number] for number in order], price, limit - after)
    if taken is None:
        return _solved(scaled)
    found = [0] * len(menus)
    for number, place in zip(order, taken, strict=True):
        found[number] = place
    return found


def _relaxed(menus: Sequence[Menu]) -> tuple[float, float]:
    """The price of cost in the relaxed programme, and the harm of a filling that is close to it.

    Steps along the convex hulls of the menus are taken by falling gain for their cost; the price is
    the gain of the first that does not fit.
    """
    steps = []
    for number, menu in enumerate(menus):
        corners = concave_hull(menu.cost, -menu.harm)
        gains, extras = -np.diff(menu.harm[corners]), np.diff(menu.cost[corners])
        with np.errstate(over="ignore"):
            rates = np.minimum(gains / extras, _HIGHEST)
        steps += [(*step, number) for step in zip(rates, extras, gains, strict=True)]
    steps.sort(key=lambda step: -step[0])
    room, harm, price = 1.0, math.fsum(menu.harm[0] for menu in menus), 0.0
    full: set[int] = set()
    for rate, extra, gain, number in steps:
        if number in full:
            continue
        if extra <= room:
            room, harm = room - extra, harm - gain
        else:
            price = max(price, float(rate))
            full.add(number)
    return price, float(harm)


def _walk(menus: Sequence[Menu], price: float, limits: Numbers) -> list[int] | None:
    """The best filling of a room of 1, among ways whose harm and priced cost keep to the limits.

    ``None`` where there are too many of them.

    Args:
        menus: in the order in which they are gone through.
        price: of cost.
        limits: after each menu.
    """
    harm, cost = np.zeros(1), np.zeros(1)
    history: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    kept = 0
    for menu, limit in zip(menus, limits.tolist(), strict=True):
        parts = []
        for place in range(len(menu.cost)):
            more, dearer = harm + menu.harm[place], cost + menu.cost[place]
            keep = np.flatnonzero((dearer <= 1) & (more + price * dearer <= limit))
            parts.append((more[keep], dearer[keep], keep, np.full(len(keep), place)))
        more, dearer, parent, chosen = (np.concatenate(own) for own in zip(*parts, strict=True))
        best = pareto(dearer, -more)
        harm, cost = more[best], dearer[best]
        history.append((parent[best], chosen[best]))
        kept += len(best)
        if kept > _MOST:
            return None
    way = int(np.flatnonzero(harm <= harm.min() + _ROUNDING)[0])  # the cheapest comes first
    taken = []
    for parent, chosen in reversed(history):
        taken.append(int(chosen[way]))
        way = int(parent[way])
    return taken[::-1]


def _solved(menus: Sequence[Menu]) -> list[int]:
    """A filling of a room of 1 whose harm is the least but for the gap."""
    one_of_each = block_diag([np.ones((1, len(menu.cost))) for menu in menus])
    costs = csr_array(np.concatenate([menu.cost for menu in menus])[None])
    answer = milp(
        # the solver's tolerances are absolute
        np.concatenate([menu.harm for menu in menus]) / _GAP,
        integrality=1,
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_of_each, 1, 1),
            LinearConstraint(costs, -np.inf, 1 - 2 * _GAP),
        ],
        options={"mip_rel_gap": _GAP},
    )
    taken = np.split(answer.x, np.cumsum([len(menu.cost) for menu in menus])[:-1])
    places = [int(own.argmax()) for own in taken]
    spent = math.fsum(menu.cost[place] for menu, place in zip(menus, places, strict=True))
    assert spent <= 1, spent
    return places
