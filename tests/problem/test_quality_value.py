"""What knowing the quality is worth, against linear programmes solved by scipy."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from dqmq_env import BitAssignment
from dqmq_env.errors import BudgetError
from dqmq_env.problem.fronts import concave_hull, pareto
from dqmq_env.problem.quality_value import Answers, Chosen, value_of_quality

IMAGES = 300


def make_answers(seed: int, conditions: int, assignments: int, *, alike: bool = False) -> Answers:
    """Dearer assignments tend to be better, each condition has a taste of its own."""
    rng = np.random.default_rng(seed)
    costs = np.round(rng.uniform(0.1, 1, assignments), 2)
    taste = (
        np.zeros((conditions, 1)) if alike else rng.uniform(-0.3, 0.3, (conditions, assignments))
    )
    chance = np.clip(0.3 + 0.5 * np.sqrt(costs) + taste, 0, 1)
    draws = (
        rng.random((2, conditions, assignments, IMAGES))
        if not alike
        else rng.random((2, 1, assignments, IMAGES)).repeat(conditions, 1)
    )
    right = draws < chance[None, :, :, None]
    return Answers(
        [f"condition {row}" for row in range(conditions)],
        rng.dirichlet(np.ones(conditions)),
        costs,
        right[0].mean(2),
        right[0].mean(2),
        right[1].mean(2),
        lambda place: BitAssignment({"layer": (place + 1, 8)}),
        lambda places: right[1][:, places],
    )


def best_by_programme(
    values: NDArray[np.float64],
    shares: NDArray[np.float64],
    costs: NDArray[np.float64],
    budget: float,
) -> float:
    """Of shares of assignments in each row, with the average cost within the budget."""
    rows, count = values.shape
    found = linprog(
        -(shares[:, None] * values).ravel(),
        A_ub=(shares[:, None] * costs[None]).reshape(1, -1),
        b_ub=[budget],
        A_eq=np.kron(np.eye(rows), np.ones(count)),
        b_eq=np.ones(rows),
    )
    return float(-found.fun)


def spent(answers: Answers, chosen: Chosen, values: NDArray[np.float64]) -> float:
    """The average over the mixture of a value of each condition and assignment."""
    total = 0.0
    for name, pairs in chosen.assignments.items():
        row = answers.conditions.index(name)
        assert sum(share for _, share in pairs) == pytest.approx(1)
        for assignment, share in pairs:
            place = assignment["layer"].weight - 1
            total += answers.probabilities[row] * share * values[row, place]
    return total


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 8), st.floats(0, 1))
def test_choices_are_the_best_there_are(
    seed: int, conditions: int, assignments: int, above: float
) -> None:
    answers = make_answers(seed, conditions, assignments)
    budget = float(answers.costs.min()) + above * 0.9
    value = value_of_quality(answers, budget)
    mean = answers.probabilities @ answers.search
    kept = answers.costs <= budget + 1e-12
    assert value.single.search == pytest.approx(mean[kept].max())
    blind = best_by_programme(mean[None], np.ones(1), answers.costs, budget)
    assert value.blind.search == pytest.approx(blind, abs=1e-9)
    rule = best_by_programme(answers.search, answers.probabilities, answers.costs, budget)
    assert value.rule.search == pytest.approx(rule, abs=1e-9)
    costs = np.tile(answers.costs, (conditions, 1))
    for chosen in (value.single, value.blind, value.rule):
        assert set(chosen.assignments) == set(answers.conditions)
        assert chosen.cost <= budget + 1e-9
        assert spent(answers, chosen, costs) == pytest.approx(chosen.cost)
        assert spent(answers, chosen, answers.search) == pytest.approx(chosen.search)
        assert spent(answers, chosen, answers.test) == pytest.approx(chosen.test)
    assert value.gain.value == pytest.approx(value.rule.test - value.blind.test)
    assert value.saved is None or value.saved.value <= 1


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0, 0.5))
def test_nothing_is_gained_where_conditions_are_alike(seed: int, above: float) -> None:
    answers = make_answers(seed, 3, 6, alike=True)
    value = value_of_quality(answers, float(answers.costs.min()) + above)
    assert value.rule.search == pytest.approx(value.blind.search)


def test_intervals_hold_the_estimates_and_are_those_of_the_images() -> None:
    answers = make_answers(3, 3, 6)
    value = value_of_quality(answers, 0.5)
    for estimate in (value.gain, value.saved):
        assert estimate is not None
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < estimate.value < estimate.high
    assert value.gain.value > 0
    # by the central limit theorem, from the differences of single images
    places = {
        c: [(a["layer"].weight - 1, s) for a, s in g] for c, g in value.rule.assignments.items()
    }
    other = {
        c: [(a["layer"].weight - 1, s) for a, s in g] for c, g in value.blind.assignments.items()
    }
    right = answers.correct(np.arange(6))
    assert right is not None
    differences = np.zeros(IMAGES)
    for row, name in enumerate(answers.conditions):
        for given_to, sign in ((places, 1), (other, -1)):
            for place, share in given_to[name]:
                differences += sign * answers.probabilities[row] * share * right[row, place]
    half = 1.96 * differences.std() / np.sqrt(IMAGES)
    assert value.gain.high is not None
    assert value.gain.high - value.gain.value == pytest.approx(half, rel=0.15)
    again = value_of_quality(answers, 0.5)
    assert (again.gain, again.saved) == (value.gain, value.saved)


def test_without_single_images_there_are_no_intervals() -> None:
    answers = make_answers(3, 3, 6)
    known = value_of_quality(answers, 0.5)
    unknown = value_of_quality(Answers(**{**vars(answers), "correct": lambda places: None}), 0.5)
    assert unknown.gain.value == pytest.approx(known.gain.value)
    assert unknown.saved is not None
    assert unknown.gain.low is unknown.gain.high is unknown.saved.low is None


def test_what_is_saved_by_hand() -> None:
    """Half of the images need 8 bits, the others none of them."""
    answers = Answers(
        ["easy", "hard"],
        np.array([0.5, 0.5]),
        np.array([0.2, 1.0]),
        np.array([[0.9, 0.9], [0.1, 0.9]]),
        np.array([[0.9, 0.9], [0.1, 0.9]]),
        np.array([[0.9, 0.9], [0.1, 0.9]]),
        lambda place: BitAssignment({"layer": (place + 1, 8)}),
        lambda places: None,
    )
    value = value_of_quality(answers, 0.6)
    assert (value.single.cost, value.single.test) == pytest.approx((0.2, 0.5))
    assert (value.blind.cost, value.blind.test) == pytest.approx((0.6, 0.7))
    assert (value.rule.cost, value.rule.test) == pytest.approx((0.6, 0.9))
    assert value.gain.value == pytest.approx(0.2)
    # an accuracy of 0.7 takes 8 bits for half of the hard ones alone
    assert value.saved is not None
    assert value.saved.value == pytest.approx(1 - 0.4 / 0.6)


def test_nothing_is_saved_where_the_rule_is_never_as_good() -> None:
    """On ``search`` it pays to give each condition its own; on ``test`` it was an accident."""
    answers = Answers(
        ["one", "other"],
        np.array([0.5, 0.5]),
        np.array([0.2, 0.5, 0.5]),
        np.array([[0.1, 0.9, 0.8], [0.1, 0.8, 0.9]]),
        np.array([[0.1, 0.9, 0.8], [0.1, 0.8, 0.9]]),
        np.array([[0.1, 0.7, 0.9], [0.1, 0.9, 0.7]]),
        lambda place: BitAssignment({"layer": (place + 1, 8)}),
        lambda places: None,
    )
    value = value_of_quality(answers, 0.5)
    assert value.gain.value == pytest.approx(-0.1)
    assert value.saved is None


def test_choices_follow_the_score() -> None:
    answers = make_answers(1, 2, 5)
    worst = replace(answers, score=-answers.search)
    value = value_of_quality(worst, 1.0)
    assert value.rule.search == pytest.approx(
        answers.probabilities @ answers.search.min(1), abs=1e-9
    )


def test_a_budget_that_nothing_keeps_to_is_refused() -> None:
    answers = make_answers(0, 2, 3)
    with pytest.raises(BudgetError, match=r"budget: got 0\.05, the cheapest assignment costs"):
        value_of_quality(answers, 0.05)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_fronts_against_brute_force(points: list[tuple[int, int]]) -> None:
    costs, values = np.array(points, float).T
    front = pareto(costs, values).tolist()
    for place, (cost, value) in enumerate(points):
        beaten = any(
            c <= cost and v >= value and ((c, v) != (cost, value) or other < place)
            for other, (c, v) in enumerate(points)
        )
        assert (place in front) == (not beaten)
    hull = concave_hull(costs, values)
    assert set(hull.tolist()) <= set(front)
    assert np.all(np.diff(costs[hull]) > 0)
    # nothing on the front lies above the hull, and slopes fall
    for place in front:
        assert values[place] <= np.interp(costs[place], costs[hull], values[hull]) + 1e-9
    if len(hull) > 2:
        slopes = np.diff(values[hull]) / np.diff(costs[hull])
        assert np.all(np.diff(slopes) < 0)
