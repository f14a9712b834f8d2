"""A budget holds for every finished episode, whatever the agent does."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env import BitWidthEnv, NetworkProblem, Task
from dqmq_env.costs import Bops, Cost, Size, layer_table
from dqmq_env.errors import BudgetError
from dqmq_env.task.budget import Budget

BITS = (2, 4, 8)
COSTS: list[Cost] = [Size(), Bops()]
shares = st.floats(0, 1)
costs = st.sampled_from(COSTS)


def smallest(problem: NetworkProblem, cost: Cost) -> float:
    return float(sum(row.min() for row in layer_table(cost, problem.layers, problem.candidates)))


def make(
    problem: NetworkProblem, cost: Cost, share: float, actions: str = "discrete"
) -> BitWidthEnv:
    """With a budget between the smallest reachable, at ``share`` 0, and 1."""
    low = smallest(problem, cost)
    return BitWidthEnv(problem, Task(budget=Budget(cost, low + share * (1 - low))), actions)


def play(env: BitWidthEnv, actions: list[int]) -> tuple[dict[str, Any], list[Any]]:
    """Play an episode; return its info, and the masks before each step."""
    env.reset(seed=0)
    masks, info = [], {}
    for action in actions:
        masks.append(env.action_masks())
        info = env.step(action)[4]
    return info, masks


def decided_bits(env: BitWidthEnv, info: dict[str, Any]) -> list[int]:
    pairs = list(info["assignment"].values())
    assert all(weight == activation for weight, activation in pairs)
    return [pairs[layer][0] for layer in env.core.observer.layers]


action_lists = st.lists(st.integers(0, 2), min_size=6, max_size=6)


@settings(max_examples=40)
@given(cost=costs, share=shares, actions=action_lists)
def test_no_episode_exceeds_its_budget(
    tiny_problem: NetworkProblem, cost: Cost, share: float, actions: list[int]
) -> None:
    env = make(tiny_problem, cost, share)
    info, masks = play(env, actions)
    assert info["costs"][cost.name] <= env.core.task.budget.fraction + 1e-9
    # masks agree with what is executed: a masked action is lowered to the nearest that is not
    bits = decided_bits(env, info)
    lowered = 0
    for action, mask, executed in zip(actions, masks, bits, strict=True):
        assert mask.shape == (3,)
        assert mask.dtype == np.bool_
        allowed = [k for k in range(3) if mask[k]]
        assert allowed == list(range(len(allowed)))  # fewer bits are never worse
        assert len(allowed) >= 1
        index = BITS.index(executed)
        assert index == max(k for k in allowed if k <= action)
        lowered += index != action
    assert info["lowered"] == lowered


@settings(max_examples=30)
@given(cost=costs, share=shares)
def test_wanting_the_most_uses_the_budget_up(
    tiny_problem: NetworkProblem, cost: Cost, share: float
) -> None:
    """What is left is less than what one more step of any lowered layer would have cost."""
    env = make(tiny_problem, cost, share)
    info, _ = play(env, [2] * 6)
    table = layer_table(cost, tiny_problem.layers, tiny_problem.candidates)
    left = env.core.task.budget.fraction - info["costs"][cost.name]
    for layer, bits in zip(env.core.observer.layers, decided_bits(env, info), strict=True):
        if bits < 8:
            index = BITS.index(bits)
            assert left < table[layer][index + 1] - table[layer][index] + 1e-9


@settings(max_examples=20)
@given(cost=costs, share=shares, actions=action_lists)
def test_slack_and_spent_are_observed(
    tiny_problem: NetworkProblem, cost: Cost, share: float, actions: list[int]
) -> None:
    env = make(tiny_problem, cost, share)
    layout = env.core.observer.layout
    observation, _ = env.reset(seed=0)
    table = layer_table(cost, tiny_problem.layers, tiny_problem.candidates)
    low, high = sum(row.min() for row in table[1:]), sum(row.max() for row in table[1:])
    budget = env.core.task.budget.fraction
    spent = table[0][0]
    expected = float(np.clip((budget - spent - low) / (high - low), 0, 1))
    assert observation[layout.place("progress.slack")] == pytest.approx(expected, abs=1e-6)
    assert observation[layout.place("progress.spent")] == pytest.approx(spent, abs=1e-6)
    for action in actions:
        observation, _, _, _, info = env.step(action)
    assert observation[layout.place("progress.spent")] == pytest.approx(
        info["costs"][cost.name], abs=1e-6
    )


@pytest.mark.parametrize("cost", COSTS)
def test_the_smallest_budget_leaves_no_choice(tiny_problem: NetworkProblem, cost: Cost) -> None:
    env = make(tiny_problem, cost, 0)
    observation, _ = env.reset(seed=0)
    assert observation[env.core.observer.layout.place("progress.slack")] == pytest.approx(0)
    info, masks = play(env, [2] * 6)
    assert all(mask.tolist() == [True, False, False] for mask in masks)
    assert decided_bits(env, info) == [2] * 6
    assert info["lowered"] == 6


@pytest.mark.parametrize("cost", COSTS)
def test_a_budget_of_one_binds_nothing(tiny_problem: NetworkProblem, cost: Cost) -> None:
    env = make(tiny_problem, cost, 1)
    info, masks = play(env, [2] * 6)
    assert all(mask.all() for mask in masks)
    assert info["lowered"] == 0
    assert info["costs"] == {"size": pytest.approx(1), "bops": pytest.approx(1)}
    assert env.action_masks().tolist() == [True] * 3  # after the end, too


@pytest.mark.parametrize("cost", COSTS)
def test_an_unreachable_budget_is_refused(tiny_problem: NetworkProblem, cost: Cost) -> None:
    low = smallest(tiny_problem, cost)
    with pytest.raises(BudgetError, match=cost.name) as caught:
        BitWidthEnv(tiny_problem, Task(budget=Budget(cost, low * 0.98)))
    named = float(re.findall(r"smallest reachable is (\S+)", str(caught.value))[0])
    assert named == pytest.approx(low, abs=1e-6)
    BitWidthEnv(tiny_problem, Task(budget=Budget(cost, named)))


@settings(max_examples=15)
@given(cost=costs, share=shares, actions=action_lists)
def test_a_whole_assignment_at_once_is_lowered_in_the_same_way(
    tiny_problem: NetworkProblem, cost: Cost, share: float, actions: list[int]
) -> None:
    stepwise, _ = play(make(tiny_problem, cost, share), actions)
    at_once = make(tiny_problem, cost, share, "one-shot")
    at_once.reset(seed=0)
    _, reward, terminated, _, info = at_once.step(np.array(actions))
    assert terminated
    assert info == stepwise
    assert 0 <= reward <= 1
