"""The searches that need no network: random, greedy, evolutionary, uniform."""

from typing import Any

import numpy as np
import pytest

from baselines.evolutionary import EvolutionarySearch
from baselines.greedy import GreedySearch
from baselines.random_search import RandomSearch
from baselines.uniform import Uniform
from dqmq_env.costs import Bops
from dqmq_env.errors import BudgetError, SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.quality.mixture import Mixture
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.rule import Rule, rule_of
from dqmq_env.search.space import Space
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import SeparateDecisions
from dqmq_env.task.task import Task

TABLE = TableProblem(load_table("resnet8-fashion-mnist"))
TASK = Task(budget=Budget(Bops(), 0.3))
SEARCHES = (RandomSearch, GreedySearch, EvolutionarySearch, Uniform)


def found(
    searcher: Any, evaluations: int = 600, seed: int = 0, problem: Any = TABLE, task: Task = TASK
) -> tuple[Rule, MeteredProblem]:
    metered = MeteredProblem(problem, evaluations)
    agent = searcher.search(metered, task, evaluations, seed)
    return rule_of(agent, problem, task), metered


def mean_regret(rule: Rule, task: Task = TASK) -> float:
    return float(np.mean([TABLE.regret(own, c, task) for c, own in rule.items()]))


@pytest.mark.parametrize("scope", ["condition", "all"])
@pytest.mark.parametrize("search", SEARCHES)
def test_budget_evaluations_and_scope_are_kept(search: Any, scope: str) -> None:
    rule, metered = found(search(scope=scope), 450)
    assert 0 < metered.spent.evaluations <= 450
    assert all(TABLE.cost(own)["bops"] <= 0.3 + 1e-9 for own in rule.values())
    assert len(set(rule.values())) == 1 or scope == "condition"
    assert mean_regret(rule) < 0.6


@pytest.mark.parametrize("search", SEARCHES)
def test_the_same_seed_tries_the_same(search: Any) -> None:
    first, second, other = (found(search(), 90, seed)[1] for seed in (1, 1, 2))
    assert first.trials == second.trials
    if search in (RandomSearch, EvolutionarySearch):
        assert first.trials != other.trials


def test_random_search_tries_each_assignment_once_and_ends() -> None:
    tight = Task(budget=Budget(Bops(), 0.1))
    rule, metered = found(RandomSearch(), 2000, task=tight)
    tried = [(trial.condition, trial.assignment) for trial in metered.trials]
    every = 9 * int((TABLE.cost_of_all("bops") <= 0.1).sum())
    assert 0.8 * every < len(set(tried)) == len(tried) <= every
    assert mean_regret(rule, tight) == 0


def test_evolution_beats_random_search_on_equal_evaluations() -> None:
    regrets = [
        [mean_regret(found(search(), 1800, seed)[0]) for seed in range(5)]
        for search in (EvolutionarySearch, RandomSearch)
    ]
    assert np.mean(regrets[0]) < 0.5 * np.mean(regrets[1])


def test_greedy_climbs_by_single_raises() -> None:
    only = TableProblem(TABLE.table, ["jpeg/3"])
    _, metered = found(GreedySearch(), problem=only)
    space = Space(TABLE, TASK)
    places = [space.places(trial.assignment) for trial in metered.trials]
    assert places[0].tolist() == [0] * 6
    totals = [int(own.sum()) for own in places]
    assert totals == sorted(totals)  # each round goes on from the round before
    final = places[-1] if totals[-1] > totals[-2] else places[int(np.argmax(totals))]
    assert not [own for own in space.neighbours(final) if own.sum() > max(totals)]


def test_uniform_tries_what_fits_and_tops_it_up() -> None:
    one = TableProblem(TABLE.table, Mixture.uniform(["clean"]))
    _, metered = found(Uniform(), problem=one)
    space = Space(TABLE, TASK)
    tried = [space.places(trial.assignment).tolist() for trial in metered.trials]
    plain = [own for own in tried if len(set(own)) == 1]
    assert plain == [[0] * 6, [1] * 6, [2] * 6]  # 2, 3 and 4 bits
    for own in tried:
        if own not in plain:
            raised = [np.array(own) + np.eye(6, dtype=int)[layer] for layer in range(6)]
            assert not [up for up in raised if up.max() < 5 and space.fits(up)]


def test_a_given_width_is_taken_without_looking() -> None:
    rule, metered = found(Uniform(bits=3))
    assert metered.spent.evaluations == 0
    assert set(rule.values()) == {Space(TABLE, TASK).assignment([1] * 6)}
    with pytest.raises(BudgetError, match="uniform 6 bits"):
        found(Uniform(bits=6))


@pytest.mark.parametrize("search", SEARCHES)
def test_live_networks_and_separate_decisions(search: Any, tiny_problem: NetworkProblem) -> None:
    task = Task(budget=Budget(Bops(), 0.4), decisions=SeparateDecisions())
    rule, metered = found(search(scope="all"), 60, problem=tiny_problem, task=task)
    assert metered.spent.evaluations <= 60
    assert all(tiny_problem.cost(own)["bops"] <= 0.4 + 1e-9 for own in rule.values())


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingError, match="tournament"):
        EvolutionarySearch(tournament=30)
    with pytest.raises(SettingError, match="crossover"):
        EvolutionarySearch(crossover=2)
