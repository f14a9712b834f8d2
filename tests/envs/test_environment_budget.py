"""A budget holds for every finished episode, whatever the agent does."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env import BitAssignment, BitWidthEnv, LayerBits, NetworkProblem, Task
from dqmq_env.costs import COSTS, Cost, fraction
from dqmq_env.errors import BudgetError
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.task.budget import Budget, pair_tables
from dqmq_env.task.decisions import JointDecisions, SeparateDecisions

BITS = (2, 4, 8)
shares = st.floats(0, 1)
costs = st.sampled_from(COSTS)


def joint_table(problem: NetworkProblem, cost: Cost) -> list[Any]:
    """For each layer its cost at each of its candidates, for weights and activations alike."""
    return [pairs.diagonal() for pairs in pair_tables(cost, problem)]


def smallest(problem: NetworkProblem, cost: Cost) -> float:
    return float(sum(row.min() for row in joint_table(problem, cost)))


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
    if env.core.task.decisions == JointDecisions():
        assert all(weight == activation for weight, activation in pairs)
    return [pairs[decision.layer][decision.part] for decision in env.core.plan.decisions]


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
    table = joint_table(tiny_problem, cost)
    left = env.core.task.budget.fraction - info["costs"][cost.name]
    decisions = env.core.plan.decisions
    for decision, bits in zip(decisions, decided_bits(env, info), strict=True):
        if bits < 8:
            index, row = BITS.index(bits), table[decision.layer]
            assert left < row[index + 1] - row[index] + 1e-9


@settings(max_examples=20)
@given(cost=costs, share=shares, actions=action_lists)
def test_slack_and_spent_are_observed(
    tiny_problem: NetworkProblem, cost: Cost, share: float, actions: list[int]
) -> None:
    env = make(tiny_problem, cost, share)
    layout = env.core.observer.layout
    observation, _ = env.reset(seed=0)
    table = joint_table(tiny_problem, cost)
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


# Costs that do not grow with bits: hardware may pad 4 bits to 8, or have no kernels for 2.


@dataclass(frozen=True)
class Uneven:
    """A cost that is looked up."""

    at_two: float
    at_four: float
    at_eight: float
    name: str = "uneven"

    def of(self, spec: LayerSpec, bits: LayerBits) -> float:
        cost = {2: self.at_two, 4: self.at_four, 8: self.at_eight}
        return spec.macs * (cost[bits.weight] + cost[bits.activation])


@pytest.mark.parametrize(
    ("cost", "executed"),
    [
        (Uneven(9, 5, 6), [4, 4, 4]),  # 2 goes up, 8 goes down
        (Uneven(9, 9, 6), [8, 8, 8]),
        (Uneven(5, 9, 5), [2, 2, 8]),  # 4 is as near to 2 as it is to 8
        (Uneven(5, 5, 9), [2, 4, 4]),
    ],
)
def test_an_infeasible_action_goes_to_the_nearest_feasible_one(
    tiny_problem: NetworkProblem, cost: Uneven, executed: list[int]
) -> None:
    at = {2: cost.at_two, 4: cost.at_four, 8: cost.at_eight}
    macs = [spec.macs for spec in tiny_problem.layers]
    pinned = (macs[0] + macs[-1]) / sum(macs)
    budget = pinned + (1 - pinned) * min(at.values()) / at[8]
    for decisions in (JointDecisions(), SeparateDecisions()):
        env = BitWidthEnv(tiny_problem, Task(budget=Budget(cost, budget), decisions=decisions))
        for action, bits in enumerate(executed):
            info, masks = play(env, [action] * env.core.decisions)
            for mask in masks:
                assert [BITS[k] for k in range(3) if mask[k]] == sorted(set(executed))
            assert decided_bits(env, info) == [bits] * env.core.decisions
            assert info["lowered"] == (0 if bits == BITS[action] else env.core.decisions)


price = st.floats(1, 10)


@settings(max_examples=30)
@given(
    cost=st.builds(Uneven, price, price, price),
    share=shares,
    actions=st.lists(st.integers(0, 2), min_size=12, max_size=12),
    separate=st.booleans(),
)
def test_no_episode_exceeds_a_budget_of_such_a_cost(
    tiny_problem: NetworkProblem,
    cost: Uneven,
    share: float,
    actions: list[int],
    separate: bool,
) -> None:
    low = sum(pairs.min() for pairs in pair_tables(cost, tiny_problem))
    budget = low + share * max(1 - low, 0)
    decisions = SeparateDecisions() if separate else JointDecisions()
    env = BitWidthEnv(tiny_problem, Task(budget=Budget(cost, budget), decisions=decisions))
    actions = actions[: env.core.decisions]
    info, masks = play(env, actions)
    bits = BitAssignment(info["assignment"])
    assert fraction(cost, tiny_problem.layers, bits) <= budget + 1e-9
    indices = [BITS.index(width) for width in decided_bits(env, info)]
    for action, mask, index in zip(actions, masks, indices, strict=True):
        assert index == min(np.flatnonzero(mask), key=lambda k: (abs(k - action), k))
    assert info["lowered"] == sum(a != k for a, k in zip(actions, indices, strict=True))
