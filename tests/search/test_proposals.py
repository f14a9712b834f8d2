import numpy as np
import pytest

from dqmq_env.costs import Bops
from dqmq_env.errors import SearchError, SettingError
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.proposals import Proposals, run_proposals
from dqmq_env.search.space import Space
from dqmq_env.search.target import targets_of
from dqmq_env.task.budget import Budget
from dqmq_env.task.task import Task

TABLE = TableProblem(load_table("resnet8-fashion-mnist"))
TASK = Task(budget=Budget(Bops(), 0.3))


def listed(indices: list[int], last: int | None = None) -> Proposals:
    for index in indices:
        yield TABLE.assignment(index)
    return None if last is None else TABLE.assignment(last)


def kept(count: int) -> list[int]:
    """Places in the table of some assignments that keep to the budget."""
    space = Space(TABLE, TASK)
    generator = np.random.default_rng(0)
    return [TABLE.index(space.assignment(space.random(generator))) for _ in range(count)]


def test_searches_take_turns_and_the_best_is_kept() -> None:
    indices = kept(20)
    problem = MeteredProblem(TABLE, 120)
    targets = targets_of("condition", problem, TASK)
    rule = run_proposals([(target, listed(indices)) for target in targets])
    # 13 whole rounds of nine conditions, and three more evaluations
    order = [trial.condition for trial in problem.trials]
    assert order == [*TABLE.mixture.conditions * 13, *TABLE.mixture.conditions[:3]]
    for number, condition in enumerate(TABLE.mixture.conditions):
        tried = indices[: 14 if number < 3 else 13]
        rewards = TABLE.rewards(condition, TASK)[tried]
        assert rule[condition] == TABLE.assignment(tried[int(rewards.argmax())])


def test_one_for_all_maximises_the_mean() -> None:
    indices = kept(30)
    problem = MeteredProblem(TABLE)
    (target,) = targets_of("all", problem, TASK)
    assert target.price == 9
    rule = run_proposals([(target, listed(indices))])
    means = np.mean([TABLE.rewards(c, TASK)[indices] for c in TABLE.mixture.conditions], 0)
    assert set(rule.values()) == {TABLE.assignment(indices[int(means.argmax())])}
    assert problem.spent.evaluations == 270


def test_a_last_word_is_taken() -> None:
    first, last = kept(2)
    problem = MeteredProblem(TABLE)
    targets = targets_of("all", problem, TASK)
    rule = run_proposals([(targets[0], listed([first], last))])
    assert set(rule.values()) == {TABLE.assignment(last)}


def test_too_few_evaluations_are_named() -> None:
    problem = MeteredProblem(TABLE, 8)
    targets = targets_of("condition", problem, TASK)
    with pytest.raises(SearchError, match="got 8, allowed are 9 and more"):
        run_proposals([(target, listed(kept(2))) for target in targets])


def test_an_assignment_beyond_the_budget_is_refused_before_it_is_evaluated() -> None:
    problem = MeteredProblem(TABLE)
    (target,) = targets_of("all", problem, TASK)
    with pytest.raises(SearchError, match="the budget is"):
        target.answer(TABLE.assignment(TABLE.count - 1))
    assert problem.spent.evaluations == 0
    assert target.look(TABLE.assignment(TABLE.count - 1)).accuracy > 0.8


def test_an_unknown_scope_is_refused() -> None:
    with pytest.raises(SettingError, match="'condition' and 'all'"):
        targets_of("some", MeteredProblem(TABLE), TASK)
