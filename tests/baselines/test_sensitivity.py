from collections.abc import Callable

import numpy as np
import pytest

from baselines.budget_sweep import sweep
from baselines.exchange import exchanges
from baselines.random_search import RandomSearch
from baselines.sensitivity import SensitivityILP, looks, measure
from dqmq_env.costs import Bops, Size
from dqmq_env.envs.tabular import TabularSetting
from dqmq_env.errors import SearchError, SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.protocol import Searcher
from dqmq_env.search.rule import rule_of
from dqmq_env.search.space import Space
from dqmq_env.search.target import targets_of
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import SeparateDecisions
from dqmq_env.task.reward import AccuracyReward, WeightedReward
from dqmq_env.task.task import Task

TIGHT = Task(AccuracyReward(), Budget(Bops(), 0.2))
TRADED = Task(WeightedReward(), Budget(Bops(), 1.0))
LOOKS = 1 + 6 * 4


@pytest.fixture(scope="module")
def table() -> TableProblem:
    return TabularSetting().problem()


def mean_regret(
    searcher: Searcher, table: TableProblem, task: Task, evaluations: int, seed: int = 0
) -> float:
    problem = MeteredProblem(table, evaluations)
    rule = rule_of(searcher.search(problem, task, evaluations, seed), table, task)
    assert problem.spent.evaluations <= evaluations
    return float(np.mean([table.regret(own, condition, task) for condition, own in rule.items()]))


def test_sensitivity_is_what_a_layer_alone_does(table: TableProblem) -> None:
    problem = MeteredProblem(table)
    space = Space(problem, TIGHT)
    target = targets_of("condition", problem, TIGHT)[3]
    loss, accuracy = measure(target, space), measure(target, space, "accuracy")
    assert problem.spent.evaluations == 2 * LOOKS == 2 * looks(space)
    condition = target.mixture.conditions[0]
    widest = np.array(space.sizes) - 1
    base = table.evaluate(space.assignment(widest), condition)
    for layer, place in ((0, 0), (2, 1), (5, 3)):
        changed = widest.copy()
        changed[layer] = place
        outcome = table.evaluate(space.assignment(changed), condition)
        assert loss[layer][place] == pytest.approx(float(outcome.loss[0] - base.loss[0]))
        assert accuracy[layer][place] == pytest.approx(
            float(base.accuracy[0] - outcome.accuracy[0])
        )
    assert all(row[-1] == 0 for row in (*loss, *accuracy))


def test_pairs_of_separate_decisions_get_the_sum_of_their_halves(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = MeteredProblem(make_tiny_problem(bits=(2, 8)))
    # the size says nothing about activations: the dearest option is not the widest
    task = Task(AccuracyReward(), Budget(Size()), decisions=SeparateDecisions())
    space = Space(problem, task)
    rows = measure(targets_of("all", problem, task)[0], space)
    assert looks(space) == 1 + 6 * 2
    assert problem.spent.evaluations == looks(space) * 3 * problem.batches
    for options, row in zip(space.options, rows, strict=True):
        assert [tuple(own) for own in options] == [(2, 2), (2, 8), (8, 2), (8, 8)]
        assert row[0] == pytest.approx(row[1] + row[2])
        assert row[3] == 0


def test_a_sweep_goes_from_the_budget_to_the_cheapest_bits(table: TableProblem) -> None:
    space = Space(table, TRADED)
    problem = MeteredProblem(table)
    rows = measure(targets_of("all", problem, TRADED)[0], space)
    found = sweep(space, rows, 16)
    costs = [space.cost(places) for places in found]
    assert len(found) > 8
    assert costs == sorted(costs, reverse=True)
    assert found[-1].tolist() == space.narrowest().tolist()
    tight = Space(table, TIGHT)
    assert all(tight.fits(places) for places in sweep(tight, rows, 16))
    assert len(sweep(tight, rows, 1)) == 1
    assert tight.cost(sweep(tight, rows, 1)[0]) > 0.19


@pytest.mark.parametrize("task", [TIGHT, TRADED])
@pytest.mark.parametrize("criterion", ["loss", "accuracy"])
def test_it_beats_random_search_with_as_many_evaluations(
    table: TableProblem, task: Task, criterion: str
) -> None:
    measured = mean_regret(SensitivityILP(criterion=criterion), table, task, 450)
    drawn = [mean_regret(RandomSearch(), table, task, 450, seed) for seed in range(3)]
    assert measured < 0.2 * min(drawn)


def test_refinement_lowers_the_regret(table: TableProblem) -> None:
    plain = mean_regret(SensitivityILP(refine="none"), table, TIGHT, 450)
    refined = mean_regret(SensitivityILP(), table, TIGHT, 450)
    assert refined < 0.5 * plain


def test_it_ends_where_no_exchange_is_better(table: TableProblem) -> None:
    problem = MeteredProblem(TableProblem(table.table, ["clean"]))
    rule = SensitivityILP().search(problem, TIGHT, 10**9, 0).rule
    space = Space(problem, TIGHT)
    at = space.places(rule["clean"])
    nearby = exchanges(space, at, measure(targets_of("all", problem, TIGHT)[0], space))
    assert len(nearby) > 10
    assert all(space.fits(places) for places in nearby)
    rewards = table.rewards("clean", TIGHT)
    # pairs differ with what was learned of harm; changes of one layer do not
    alone = [places for places in nearby if (places != at).sum() == 1]
    best = max(rewards[table.index(space.assignment(places))] for places in alone)
    assert rewards[table.index(rule["clean"])] >= best
    assert problem.spent.evaluations < 1000


def test_exchanges_raise_one_layer_and_lower_another(table: TableProblem) -> None:
    space = Space(table, TIGHT)
    rows = [np.linspace(1, 0, size) for size in space.sizes]
    at = sweep(space, rows, 1)[0]
    found = exchanges(space, at, rows)
    for places in found:
        change = np.sign(places - at)
        assert space.fits(places)
        assert 1 <= np.abs(change).sum() <= 2
        assert np.abs(change).sum() == 1 or change.sum() == 0
    single = {tuple(places) for places in found if (places != at).sum() == 1}
    assert single == {tuple(places) for places in space.neighbours(at)}


def test_one_assignment_for_all_conditions(table: TableProblem) -> None:
    problem = MeteredProblem(table, 400)
    rule = SensitivityILP(scope="all").search(problem, TIGHT, 400, 0).rule
    assert len(set(rule.values())) == 1
    assert all(table.cost(own)["bops"] <= 0.2 for own in rule.values())


def test_too_few_evaluations_are_refused(table: TableProblem) -> None:
    needed = 9 * (LOOKS + 1)
    with pytest.raises(SearchError, match=f"got {needed - 1}, allowed are {needed} and more"):
        SensitivityILP().search(MeteredProblem(table, needed - 1), TIGHT, needed - 1, 0)
    problem = MeteredProblem(table, needed)
    SensitivityILP().search(problem, TIGHT, needed, 0)
    assert problem.spent.evaluations == needed


def test_a_single_trial_is_the_one_that_promises_most(table: TableProblem) -> None:
    # the widest bits do least harm, but this task rewards compression
    assert mean_regret(SensitivityILP(), table, TRADED, 9 * (LOOKS + 1)) < 0.2


def test_a_live_network_is_searched_too(tiny_problem: NetworkProblem) -> None:
    found = []
    for _ in range(2):
        problem = MeteredProblem(tiny_problem, 100)
        task = Task(AccuracyReward(), Budget(Bops(), 0.3))
        found.append(SensitivityILP(scope="all").search(problem, task, 100, 0).rule)
        assert all(problem.cost(own)["bops"] <= 0.3 for own in found[-1].values())
    assert found[0] == found[1]


def test_wrong_settings_are_refused(table: TableProblem) -> None:
    for wrong in ({"criterion": "size"}, {"refine": "all"}, {"budgets": 0}):
        with pytest.raises(SettingError, match=next(iter(wrong))):
            SensitivityILP(**wrong)  # type: ignore[arg-type]
    problem = MeteredProblem(table)
    with pytest.raises(SettingError, match="criterion: got 'size'"):
        measure(targets_of("all", problem, TIGHT)[0], Space(table, TIGHT), "size")
    with pytest.raises(SettingError, match="scope"):
        SensitivityILP(scope="layer").search(problem, TIGHT, 450, 0)
