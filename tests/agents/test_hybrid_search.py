import pytest

from agents.hybrid.search import HybridSearch
from dqmq_env.costs import Bops, Size
from dqmq_env.errors import BudgetError, SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.search.meter import MeteredProblem, Spent
from dqmq_env.search.rule import rule_of
from dqmq_env.task.budget import Budget
from dqmq_env.task.task import Task

SEARCH = HybridSearch(images=96, batch=32, settings={"settle_images": 64})


def test_it_learns_and_its_rule_keeps_to_the_budget(tiny_problem: NetworkProblem) -> None:
    task = Task(budget=Budget(Bops(), 0.4))
    problem = MeteredProblem(tiny_problem, 10)
    agent = SEARCH.search(problem, task, 10, 0)
    assert problem.spent == Spent(images_evaluated=agent.images_settled, images_trained=96)
    assert agent.images_settled >= 2 * 64
    rule = rule_of(agent, tiny_problem, task)
    assert set(rule) == set(tiny_problem.mixture.conditions)
    assert all(tiny_problem.cost(own)["bops"] <= 0.4 + 1e-9 for own in rule.values())
    again = SEARCH.search(MeteredProblem(tiny_problem), task, 10, 0)
    assert dict(rule_of(again, tiny_problem, task)) == dict(rule)


def test_what_it_cannot_do_is_refused(tiny_problem: NetworkProblem) -> None:
    table = MeteredProblem(TableProblem(load_table("resnet8-fashion-mnist")))
    with pytest.raises(SettingError, match="the hybrid agent needs a live network"):
        SEARCH.search(table, Task(), 10, 0)
    with pytest.raises(SettingError, match="allowed is bops"):
        SEARCH.search(MeteredProblem(tiny_problem), Task(budget=Budget(Size(), 0.5)), 10, 0)
    with pytest.raises(BudgetError):
        SEARCH.search(MeteredProblem(tiny_problem), Task(budget=Budget(Bops(), 0.07)), 10, 0)
    with pytest.raises(SettingError, match="budget"):
        HybridSearch(settings={"budget": 0.2})
