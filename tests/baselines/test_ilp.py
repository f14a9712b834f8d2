import itertools
import math
import time
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from baselines.ilp import solve
from dqmq_env.errors import BudgetError, SettingError

Rows = list[list[float]]

wholes = st.integers(-5, 20).map(float)
fractions = st.floats(0, 1)
skewed = st.builds(lambda share, power: share * 10.0**power, fractions, st.integers(-9, 2))


@st.composite
def instances(draw: st.DrawFn) -> tuple[Rows, Rows]:
    """Sensitivities and costs, ragged, each on a scale of its own."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))

    def rows() -> Rows:
        numbers = draw(st.sampled_from([wholes, fractions, skewed]))
        scale = 10.0 ** draw(st.integers(-200, 200))
        return [[scale * draw(numbers) for _ in range(size)] for size in sizes]

    return rows(), rows()


def total(rows: Sequence[Sequence[float]], places: Sequence[int]) -> Fraction:
    """Without the rounding of floats."""
    return sum((Fraction(row[place]) for row, place in zip(rows, places, strict=True)), Fraction())


def allowed(rows: Rows) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(len(row)) for row in rows)))


def rounding(rows: Rows) -> Fraction:
    return sum((Fraction(max(map(abs, row))) for row in rows), Fraction()) / 10**11


def check(
    sensitivity: Rows, cost: Rows, budget: float, choices: list[tuple[int, ...]], found: list[int]
) -> None:
    """The answer keeps to the budget, no choice does less harm, none as good is cheaper."""
    chosen = {own: (total(sensitivity, own), total(cost, own)) for own in choices}
    near, equal = rounding(cost), rounding(sensitivity)
    inside = [own for own in chosen.values() if own[1] <= Fraction(budget)]
    harm, used = chosen[tuple(found)]
    assert used <= Fraction(budget) + near
    if inside:  # a budget that is a rounded sum may be less than the sum
        assert harm <= min(inside)[0] + equal
    assert all(used <= other + near for own, other in inside if own <= harm)


@settings(max_examples=150)
@given(instances(), st.data())
def test_it_is_what_trying_everything_finds(
    instance: tuple[Rows, Rows], data: st.DataObject
) -> None:
    sensitivity, cost = instance
    choices = allowed(cost)
    totals = [float(total(cost, own)) for own in choices]
    budget = data.draw(st.sampled_from(totals) | st.floats(min(totals), max(totals)))
    found = solve(sensitivity, cost, budget).tolist()
    check(sensitivity, cost, budget, choices, found)


@given(instances(), st.data())
def test_tied_decisions_take_the_same_candidate(
    instance: tuple[Rows, Rows], data: st.DataObject
) -> None:
    sensitivity, cost = instance
    size = len(cost[0])
    group = [decision for decision, row in enumerate(cost) if len(row) == size]
    tied = data.draw(st.lists(st.sampled_from(group), unique=True))
    choices = [own for own in allowed(cost) if len({own[decision] for decision in tied}) < 2]
    budget = data.draw(st.sampled_from([float(total(cost, own)) for own in choices]))
    found = solve(sensitivity, cost, budget, [tied]).tolist()
    assert len({found[decision] for decision in tied}) < 2
    check(sensitivity, cost, budget, choices, found)


def random_instance(
    decisions: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Layers at 2 to 8 bits: harm falls by about 4 with each bit, cost is bits squared."""
    rng = np.random.default_rng(seed)
    bits = np.arange(2, 9)
    harm = rng.lognormal(-3, 2, (decisions, 1)) * 4.0**-bits * rng.lognormal(0, 0.2, (decisions, 7))
    cost = rng.lognormal(17, 1, (decisions, 1)) * bits**2
    return harm, cost, 0.3 * cost[:, -1].sum()


@pytest.mark.parametrize("seed", range(3))
def test_another_solver_finds_nothing_better(seed: int) -> None:
    harm, cost, budget = random_instance(25, seed)
    found = solve(harm, cost, budget)
    one_each = np.kron(np.eye(25), np.ones(7))
    reference = milp(
        harm.ravel() / harm.max() * 1e3,
        integrality=1,
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(cost.reshape(1, -1) / budget, -np.inf, 1),
        ],
        options={"mip_rel_gap": 0},
    )
    rows = np.arange(25)
    assert cost[rows, found].sum() <= budget
    assert harm[rows, found].sum() * 1e3 / harm.max() <= reference.fun + 1e-6


def test_a_hundred_decisions_take_no_time() -> None:
    harm, cost, budget = random_instance(100, 0)
    begin = time.process_time()
    found = solve(harm, cost, budget)
    assert time.process_time() - begin < 2
    used = cost[np.arange(100), found].sum()
    assert 0.99 * budget < used <= budget


def test_harm_in_proportion_to_what_is_saved_is_solved_to_a_millionth() -> None:
    rng = np.random.default_rng(0)
    cost = rng.integers(100, 100_000, (60, 1)) * np.arange(2, 9) + rng.random((60, 7))
    harm = cost.max(1, keepdims=True) - cost  # each unit of cost saves one of harm
    budget = 0.6 * cost.min(1).sum() + 0.4 * cost.max(1).sum()
    found = solve(harm, cost, budget)
    rows = np.arange(60)
    assert cost[rows, found].sum() <= budget
    least = cost.max(1).sum() - budget
    assert least <= harm[rows, found].sum() <= least + 1e-5 * budget


def test_a_cheaper_candidate_is_taken_where_nothing_is_lost() -> None:
    assert solve([[0, 0, 0], [1, 0, 0]], [[3, 1, 2], [1, 2, 2]], 100).tolist() == [1, 1]
    # 0.1 + 0.2 and 0.3 + 0 are equal but for the rounding of floats; so says the second cost
    assert solve([[0.1, 0.3], [0.2, 0.0]], [[0, 1], [0, 3]], 3).tolist() == [0, 1]
    assert solve([[0.1, 0.3, 9], [0.2, 0.0, 9]], [[4, 1, 0], [1, 3, 0]], 5).tolist() == [1, 1]


def test_infinite_candidates_are_never_taken() -> None:
    inf = math.inf
    assert solve([[5, inf], [0, 1]], [[1, 1], [inf, 1]], 10).tolist() == [0, 1]
    assert solve([[inf, 2], [3, 1]], [[1, 1], [1, 1]], 10, [(0, 1)]).tolist() == [1, 1]


def test_a_budget_may_bind_nothing() -> None:
    assert solve([[2, 1], [0, 1]], [[1, 9e300], [1, 2]], math.inf).tolist() == [1, 0]


def test_an_unreachable_budget_says_what_is_reachable() -> None:
    with pytest.raises(BudgetError, match=r"got 4, the smallest reachable cost is 5\.0"):
        solve([[1, 0], [1, 0]], [[2, 9], [3, 9]], 4)
    assert solve([[1, 0], [1, 0]], [[2, 9], [3, 9]], 5).tolist() == [0, 0]
    with pytest.raises(BudgetError, match="smallest reachable"):
        solve([[1, 0], [0, 1]], [[2, 9], [9, 2]], 10, [(0, 1)])


@pytest.mark.parametrize(
    ("sensitivity", "cost", "budget", "tied", "message"),
    [
        ([], [], 1, (), "no decisions"),
        ([[]], [[]], 1, (), "one or more"),
        ([1, 2], [1, 2], 1, (), "shape"),
        ([[1, 2]], [[1, 2, 3]], 1, (), "cost"),
        ([[1, 2]], [[1, 2], [1, 2]], 1, (), "cost"),
        ([[math.nan, 1]], [[1, 2]], 1, (), "sensitivity.*nan"),
        ([[0, 1]], [[1, -math.inf]], 1, (), "cost.*inf"),
        ([[0, 1]], [[1, 2]], math.nan, (), "budget"),
        ([[math.inf, 1]], [[1, math.inf]], 1, (), "finite"),
        ([[0, 1]], [[1, 2]], 5, [(0, 1)], "tied"),
        ([[0, 1]], [[1, 2]], 5, [(-1,)], "tied"),
        ([[0, 1]], [[1, 2]], 5, [(0.5,)], "tied"),
        ([[0, 1]] * 3, [[1, 2]] * 3, 5, [(0, 1), (1, 2)], "once"),
        ([[0, 1]] * 3, [[1, 2]] * 3, 5, [(0, 0)], "once"),
        ([[0, 1], [1]], [[1, 2], [1]], 5, [(0, 1)], "same number"),
    ],
)
def test_wrong_input_is_refused(
    sensitivity: Rows, cost: Rows, budget: float, tied: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        solve(sensitivity, cost, budget, tied)
