"""Each cost where costs are used: environments, problems, programmes, searches, jobs, reports."""

import json
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dqmq_env
from baselines.exchange import Forecast
from baselines.ilp import solve
from baselines.relaxed_search import aim_of
from dqmq_env.benchmark.job import Job
from dqmq_env.benchmark.report.runs import Run
from dqmq_env.benchmark.report.summary import cost_names
from dqmq_env.benchmark.run_job import run_job
from dqmq_env.costs import (
    Bops,
    Cost,
    Energy,
    LatencyTable,
    Memory,
    Size,
    Timing,
    fraction,
    layer_table,
)
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.envs.vector import BitWidthVectorEnv
from dqmq_env.errors import BudgetError, SettingError, TableError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.quantization.candidates import joint_options
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.space import Space
from dqmq_env.search.target import targets_of
from dqmq_env.task.budget import ROUNDING, Budget
from dqmq_env.task.decisions import JointDecisions, SeparateDecisions
from dqmq_env.task.reward import AccuracyReward, WeightedReward
from dqmq_env.task.task import Task

MakeProblem = Callable[..., NetworkProblem]
TABULAR = "DQMQ-ResNet8-Tabular-v0"
SHIPPED = load_table("resnet8-fashion-mnist")
WORDS = ["size", "bops", "energy", "memory", "latency"]


def made_up(problem: Any, pairs: Callable[[int, int], bool]) -> LatencyTable:
    """A table in which 4 bits are the slowest, as on a processor without kernels for them."""
    speed = {2: 2.0, 3: 5.5, 4: 6.0, 6: 2.1, 8: 2.5}
    return LatencyTable(
        tuple(
            Timing(spec.name, w, a, spec.macs * (speed[w] + speed[a]) * 1e-6, macs=spec.macs)
            for spec in problem.layers
            for w in problem.candidates[spec.name]
            for a in problem.activation_candidates[spec.name]
            if pairs(w, a)
        )
    )


@pytest.fixture(scope="module")
def table_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Latencies of the shipped ResNet-8 at equal bits alone."""
    path = tmp_path_factory.mktemp("latency") / "table.csv"
    made_up(TableProblem(SHIPPED), lambda w, a: w == a).to_csv(path)
    return str(path)


@pytest.fixture(scope="module")
def costs(table_file: str) -> tuple[Cost, ...]:
    return (Size(), Bops(), Energy(), Memory(), LatencyTable.load(table_file))


def arguments(word: str, table_file: str) -> dict[str, Any]:
    """Keyword arguments, through JSON as a job or a script would give them."""
    own = {"cost": word} | ({"latency_table": table_file} if word == "latency" else {})
    return dict(json.loads(json.dumps(own)))


@settings(max_examples=25)
@given(
    word=st.sampled_from(WORDS),
    share=st.floats(0, 1),
    actions=st.lists(st.integers(0, 4), min_size=6, max_size=6),
)
def test_an_episode_keeps_to_a_budget_on_any_cost(
    table_file: str, word: str, share: float, actions: list[int]
) -> None:
    given_ = arguments(word, table_file)
    free = gym.make(TABULAR, **given_).unwrapped
    lowest = float(free.problem.cost_of_all(word).min())  # type: ignore[attr-defined]
    budget = lowest + share * (1 - lowest)
    env = gym.make(TABULAR, budget=budget, **given_)
    env.reset(seed=0)
    for action in actions:
        _, reward, done, _, info = env.step(action)
    assert done
    assert info["costs"][word] <= budget + 1e-9
    assert set(info["costs"]) == {"size", "bops", word}
    saved = 1 - min(info["costs"][word], 1)
    assert reward == pytest.approx(0.8 * info["accuracy"] + 0.2 * saved)
    assert info["regret"] >= -1e-12
    task = env.unwrapped.core.task  # type: ignore[attr-defined]
    best = free.problem.optimum(info["condition"], task)  # type: ignore[attr-defined]
    assert best.costs[word] <= budget + 1e-9
    with pytest.raises(BudgetError, match=f"of the {word} at 8 bits"):
        gym.make(TABULAR, budget=lowest * 0.99, **given_)


def test_by_default_a_problem_states_size_and_bops(tiny_problem: NetworkProblem) -> None:
    assert tiny_problem.costs == TableProblem(SHIPPED).costs == (Size(), Bops())
    assert MeteredProblem(tiny_problem).costs is tiny_problem.costs
    assert list(tiny_problem.cost(tiny_problem.uniform(4))) == ["size", "bops"]


def test_environments_of_the_same_table_share_their_tree(table_file: str) -> None:
    given_ = arguments("latency", table_file)
    one, other = (gym.make(TABULAR, **given_).unwrapped for _ in range(2))
    assert one.problem is other.problem  # type: ignore[attr-defined]
    assert one.core.task == other.core.task  # type: ignore[attr-defined]


def test_a_table_problem_answers_every_cost(costs: tuple[Cost, ...]) -> None:
    problem = TableProblem(SHIPPED, ["clean"], costs)
    for place in (0, 77, 15_624):
        assignment = problem.assignment(place)
        found = problem.cost(assignment)
        assert list(found) == WORDS
        for cost in costs:
            assert found[cost.name] == fraction(cost, problem.layers, assignment)
            assert problem.cost_of_all(cost.name)[place] == pytest.approx(found[cost.name])
            assert problem.cost_of_all(cost)[place] == pytest.approx(found[cost.name])
    front = problem.pareto_front("clean", "latency")
    assert [point.cost for point in front] == sorted(point.cost for point in front)
    assert problem.value_of_quality(0.9, "latency").rule.cost <= 0.9 + 1e-9
    with pytest.raises(SettingError, match="cost: got 'latency', allowed are"):
        TableProblem(SHIPPED).cost_of_all("latency")


def test_a_live_environment_with_every_cost(make_tiny_problem: MakeProblem) -> None:
    plain = make_tiny_problem()
    latency = made_up(plain, lambda w, a: True)
    costs = (Size(), Bops(), Energy("dram"), Memory(), latency)
    problem = make_tiny_problem(costs=costs)
    for cost in (Energy("dram"), Memory(), latency):
        for decisions in (JointDecisions(), SeparateDecisions()):
            task = Task(WeightedReward(cost.name), Budget(cost, 0.85), decisions=decisions)
            env = BitWidthEnv(problem, task)
            env.reset(seed=0)
            done = False
            while not done:
                *_, done, _, info = env.step(2)
            assert list(info["costs"]) == [own.name for own in costs]
            assert info["costs"][cost.name] <= 0.85 + 1e-9
            assert info["lowered"] > 0 or cost is latency
    vector = BitWidthVectorEnv(2, problem, Task(budget=Budget(latency, 0.9)))
    vector.reset(seed=0)
    for _ in range(6):
        *_, info = vector.step(np.array([0, 1]))
    assert (info["final_info"]["costs"]["latency"] <= 0.9 + 1e-9).all()


def test_only_pairs_that_can_be_decided_are_asked_of_a_table(
    make_tiny_problem: MakeProblem,
) -> None:
    latency = made_up(make_tiny_problem(), lambda w, a: w == a)
    problem = make_tiny_problem(costs=(Size(), Bops(), latency))
    BitWidthEnv(problem, Task(budget=Budget(latency, 0.95)))
    with pytest.raises(TableError, match="not measured at 2/4 bits"):
        BitWidthEnv(problem, Task(decisions=SeparateDecisions()))


def test_reward_and_budget_count_what_the_problem_does(tiny_problem: NetworkProblem) -> None:
    with pytest.raises(SettingError, match=r"cost: got 'energy', allowed are \['size', 'bops'\]"):
        BitWidthEnv(tiny_problem, Task(WeightedReward("energy")))
    problem = TableProblem(SHIPPED, costs=(Size(), Bops(), Energy()))
    for use in (BitWidthEnv, Space):
        with pytest.raises(SettingError, match="budget: got another model of energy"):
            use(problem, Task(budget=Budget(Energy("dram"), 0.5)))
    outcome = problem.table.outcome("search", [0], [0])
    with pytest.raises(SettingError, match=r"cost: got 'memory', the problem states \['bops'\]"):
        WeightedReward("memory")(outcome, {"bops": np.ones(1)})


def test_a_search_may_be_budgeted_on_a_cost_that_is_not_stated() -> None:
    problem = MeteredProblem(TableProblem(SHIPPED, ["clean"]))
    task = Task(AccuracyReward(), Budget(Energy(), 0.4))
    (target,) = targets_of("all", problem, task)
    space = Space(problem, task)
    narrow = space.assignment(space.narrowest())
    assert 0 < target.answer(narrow).accuracy < 1


@pytest.mark.parametrize("word", ["energy", "memory", "latency"])
def test_the_integer_programme_is_the_optimum_by_brute_force(
    costs: tuple[Cost, ...], word: str
) -> None:
    problem = TableProblem(SHIPPED, ["clean"], costs)
    cost = next(own for own in costs if own.name == word)
    names = list(problem.candidates)
    options = {name: joint_options(own, own) for name, own in problem.candidates.items()}
    rows = layer_table(cost, problem.layers, options)
    rng = np.random.default_rng(0)
    harm = [rng.random(len(row)) for row in rows]
    every = problem.cost_of_all(word)
    summed = np.zeros(1)
    for row in harm:
        summed = (summed[:, None] + row).reshape(-1)
    for budget in np.quantile(every, [0.0, 0.2, 0.5, 0.9]):
        places = solve(harm, rows, float(budget))
        chosen = {name: options[name][place] for name, place in zip(names, places, strict=True)}
        spent = fraction(cost, problem.layers, dqmq_env.BitAssignment(chosen))
        assert spent <= budget + 1e-9
        found = sum(float(row[place]) for row, place in zip(harm, places, strict=True))
        assert found == pytest.approx(summed[every <= budget + ROUNDING].min())


@pytest.mark.parametrize("word", ["energy", "latency"])
def test_searches_go_for_it(costs: tuple[Cost, ...], word: str) -> None:
    problem = TableProblem(SHIPPED, ["clean"], costs)
    cost = next(own for own in costs if own.name == word)
    aim = aim_of(problem, Task(WeightedReward(word, 0.5), Budget(Bops())), exchange=2)
    assert aim.price == 2
    expected = problem.cost(aim.space.assignment(aim.space.narrowest()))[word]
    assert aim.space.cost(aim.space.narrowest()) == pytest.approx(expected)
    task = Task(WeightedReward(word), Budget(cost, 0.9))
    space = Space(problem, task)
    zeros = [np.zeros(size) for size in space.sizes]
    forecast = Forecast.of(problem, task, space, "loss", zeros, zeros, zeros)
    (target,) = targets_of("all", MeteredProblem(problem), task)
    at = space.narrowest()
    answer = target.answer(space.assignment(at))
    assert forecast.rewards(at, answer, at[None])[0] == pytest.approx(answer.reward)


@pytest.mark.parametrize(
    "agent", ["baselines.greedy:GreedySearch", "baselines.random_search:RandomSearch"]
)
@pytest.mark.parametrize("word", ["energy", "latency"])
def test_a_job_and_its_report(table_file: str, agent: str, word: str) -> None:
    env = {**arguments(word, table_file), "budget": 0.9, "conditions": ["clean", "jpeg/3"]}
    result = run_job(Job(agent, TABULAR, 60, 0, env=env))
    for score in (*result.scores, *result.uniform):
        assert score.costs[word] <= 0.9 + 1e-9
    assert cost_names([Run(result, "one", "two")]) == [word, "bops", "size"]
