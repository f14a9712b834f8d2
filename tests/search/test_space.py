from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqmq_env.costs import Bops, Size
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import BudgetError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.space import Space
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import SeparateDecisions
from dqmq_env.task.task import Task

TABLE = TableProblem(load_table("resnet8-fashion-mnist"))
PLACES = st.lists(st.integers(0, 4), min_size=6, max_size=6)
BUDGETS = st.floats(0.08, 1.2)


def space_of(budget: float, cost: Any = Bops()) -> Space:  # noqa: B008
    return Space(TABLE, Task(budget=Budget(cost, budget)))


@given(PLACES, st.sampled_from([Bops(), Size()]))
def test_costs_are_those_of_the_problem(places: list[int], cost: Any) -> None:
    space = space_of(1.0, cost)
    assignment = space.assignment(places)
    assert space.cost(places) == pytest.approx(TABLE.cost(assignment)[cost.name], abs=1e-12)
    assert space.places(assignment).tolist() == places


@given(PLACES, BUDGETS)
def test_lowered_is_what_the_environment_executes(places: list[int], budget: float) -> None:
    task = Task(budget=Budget(Bops(), budget))
    env = BitWidthEnv(TABLE, task)
    env.reset(seed=0)
    for action in places:
        *_, info = env.step(action)
    space = Space(TABLE, task)
    lowered = space.lowered(places)
    assert space.fits(lowered)
    assert space.assignment(lowered) == BitAssignment(info["assignment"])
    if space.fits(places):
        assert lowered.tolist() == places


@given(st.integers(0, 2**32), BUDGETS)
def test_random_ones_keep_to_the_budget(seed: int, budget: float) -> None:
    space = space_of(budget)
    places = space.random(np.random.default_rng(seed))
    assert TABLE.cost(space.assignment(places))["bops"] <= budget + 1e-9


@given(PLACES, BUDGETS)
def test_neighbours_are_all_that_differ_in_one_layer(places: list[int], budget: float) -> None:
    space = space_of(budget)
    found = {tuple(own.tolist()) for own in space.neighbours(np.array(places))}
    expected = {
        (*places[:layer], place, *places[layer + 1 :])
        for layer in range(6)
        for place in range(5)
        if place != places[layer]
    }
    assert found == {own for own in expected if space.fits(own)}


def test_uniform_is_the_widest_up_to_the_width() -> None:
    space = space_of(1.0)
    assert space.uniform(5).tolist() == [2] * 6
    assert space.uniform(1).tolist() == space.narrowest().tolist() == [0] * 6
    assert space.uniform(8).tolist() == space.widest().tolist() == [4] * 6
    with pytest.raises(BudgetError, match="uniform 8 bits"):
        space_of(0.5).uniform(8)


def test_uniforms_are_the_widths_that_fit() -> None:
    assert [own.tolist() for own in space_of(0.3).uniforms()] == [[k] * 6 for k in range(3)]
    assert [own.tolist() for own in space_of(0.08).uniforms()] == [[0] * 6]


def test_separate_decisions_have_all_pairs(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = make_tiny_problem((2, 8))
    space = Space(problem, Task(decisions=SeparateDecisions()))
    assert space.sizes == (4,) * 6
    assert [tuple(own) for own in space.options[0]] == [(2, 2), (2, 8), (8, 2), (8, 8)]
    weights_only = Space(make_tiny_problem((2, 4), activation_bits=8), Task())
    assert [tuple(own) for own in weights_only.options[0]] == [(2, 8), (4, 8)]


def test_a_budget_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(BudgetError, match="smallest reachable"):
        space_of(0.01)
