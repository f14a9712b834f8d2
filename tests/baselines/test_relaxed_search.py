from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.relaxed_search import aim_of, lowered_to_fit
from dqmq_env.costs import Bops, Size
from dqmq_env.errors import BudgetError, SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.search.live import live_network
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.space import Space
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import SeparateDecisions
from dqmq_env.task.reward import AccuracyReward, WeightedReward
from dqmq_env.task.task import Task

TABLE = TableProblem(load_table("resnet8-fashion-mnist"))


@given(
    fraction=st.floats(0.08, 1.0),
    losses=st.lists(st.floats(0, 1), min_size=6, max_size=6),
    data=st.data(),
)
def test_lowering_ends_at_the_budget_and_raises_nothing(
    fraction: float, losses: list[float], data: st.DataObject
) -> None:
    space = Space(TABLE, Task(budget=Budget(Bops(), fraction)))
    start = np.array([data.draw(st.integers(0, size - 1)) for size in space.sizes])
    found = lowered_to_fit(space, start, lambda layer, place, lower: losses[layer])
    assert space.fits(found)
    assert (found <= start).all()
    if space.fits(start):
        assert (found == start).all()


def test_the_layer_of_least_loss_is_lowered_first_and_to_the_next_candidate() -> None:
    space = Space(TABLE, Task(budget=Budget(Bops(), 0.97)))
    asked: list[tuple[int, int, int]] = []

    def loss(layer: int, place: int, lower: int) -> float:
        asked.append((layer, place, lower))
        return float(layer != 3)

    found = lowered_to_fit(space, space.widest(), loss)
    assert found.tolist() == [4, 4, 4, 3, 4, 4]
    assert asked == [(layer, 4, 3) for layer in range(6)]


def test_a_budget_that_excludes_something_is_all_that_is_gone_for() -> None:
    aim = aim_of(TABLE, Task(WeightedReward("size", 0.5), Budget(Bops(), 0.3)), exchange=3)
    assert aim.binds
    assert not aim.idle
    assert aim.price == 0
    assert aim.space.budget == 0.3


def test_without_one_the_reward_sets_a_price_on_its_own_cost() -> None:
    aim = aim_of(TABLE, Task(WeightedReward("size", 0.25), Budget(Bops())), exchange=3)
    assert not aim.binds
    assert aim.price == pytest.approx(3 * 0.25 / 0.75)
    widest = aim.space.widest()
    sizes = TABLE.cost(aim.space.assignment(widest - (np.arange(6) == 4)))["size"]
    assert aim.space.cost(widest - (np.arange(6) == 4)) == pytest.approx(sizes)


@pytest.mark.parametrize("reward", [AccuracyReward(), WeightedReward(weight=0)])
def test_where_cost_does_not_count_there_is_nothing_to_do(reward: AccuracyReward) -> None:
    assert aim_of(TABLE, Task(reward, Budget(Size())), exchange=3).idle


def test_decisions_are_joint_whatever_the_task(tiny_problem: NetworkProblem) -> None:
    task = Task(budget=Budget(Bops(), 0.5), decisions=SeparateDecisions())
    joint = aim_of(tiny_problem, replace(task, decisions=Task().decisions), 3).space
    assert aim_of(tiny_problem, task, 3).space.options == joint.options


def test_an_impossible_budget_is_refused(tiny_problem: NetworkProblem) -> None:
    with pytest.raises(BudgetError, match="smallest reachable"):
        aim_of(tiny_problem, Task(budget=Budget(Bops(), 0.01)), 3)


def test_a_table_is_no_live_network(tiny_problem: NetworkProblem) -> None:
    assert live_network(MeteredProblem(tiny_problem), "SDQ") is tiny_problem
    with pytest.raises(SettingError, match=r"TableProblem.*SDQ needs a live network"):
        live_network(MeteredProblem(TABLE), "SDQ")
