"""Jobs, results, and what running a job gives."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqmq_env.benchmark.job import Job, Result
from dqmq_env.benchmark.resolve import environment_of, schedule_of
from dqmq_env.benchmark.run_job import curve_of, run_in, run_job, scores_of
from dqmq_env.benchmark.verify import replay
from dqmq_env.costs import Bops
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import ResultError, SearchError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.protocol import Outcome
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.rule import Rule
from dqmq_env.search.space import Space
from dqmq_env.task.budget import Budget
from dqmq_env.task.task import Task
from tests.benchmark.searchers import Tiny

TABULAR = "DQMQ-ResNet8-Tabular-v0"
JOB = Job("tests.benchmark.searchers:Tiny", TABULAR, 100, 3, {"count": 2}, {"budget": 0.2})


@pytest.fixture(scope="module")
def result() -> Result:
    return run_job(JOB)


def same(one: Result, other: Result) -> bool:
    """Equal in all that the clock has no part in."""
    return replace(one, seconds=0) == replace(other, seconds=0)


def test_the_key_is_the_same_in_every_process() -> None:
    code = f"from dqmq_env.benchmark.job import Job; print(Job(**{asdict(JOB)!r}).key)"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == JOB.key


@pytest.mark.parametrize(
    "change",
    [
        {"agent": "baselines.greedy:GreedySearch"},
        {"id": "DQMQ-ResNet8-v0"},
        {"evaluations": 101},
        {"seed": 4},
        {"settings": {"count": 3}},
        {"settings": {}},
        {"env": {"budget": 0.3}},
        {"fine_tune": {}},
        {"version": "9.9.9"},
    ],
)
def test_the_key_tells_jobs_apart(change: dict[str, Any]) -> None:
    assert replace(JOB, **change).key != JOB.key


def test_the_label_is_no_part_of_the_key() -> None:
    assert replace(JOB, label="another").key == JOB.key


def test_a_result_is_read_back_as_it_was(result: Result) -> None:
    assert Result.from_json(result.to_json()) == result


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("dqmq-result/1", "dqmq-result/9", "dqmq-result/9"),
        ('"seed": 3', '"seed": 4', "checksum"),
        ('"sha256": "', '"sha256": "0', "checksum"),
        ('"sha256"', '"sha257"', "sha256"),
    ],
)
def test_a_result_that_was_changed_is_refused(
    result: Result, old: str, new: str, part: str
) -> None:
    text = result.to_json()
    assert old in text
    with pytest.raises(ResultError, match=part):
        Result.from_json(text.replace(old, new))


def test_a_job_gives_the_same_again(result: Result) -> None:
    assert same(run_job(JOB), result)


def test_a_result_says_what_the_table_says(result: Result) -> None:
    problem = TableProblem(load_table("resnet8-fashion-mnist"))
    env = environment_of(JOB)
    task = env.core.task
    rule = Rule.from_dict(result.rule)
    assert set(rule) == set(problem.mixture.conditions)
    for score, condition in zip(result.scores, problem.mixture.conditions, strict=True):
        assignment = rule[condition]
        assert score.condition == str(condition)
        assert score.accuracy == float(problem.evaluate(assignment, condition).accuracy[0])
        assert score.test == float(problem.evaluate(assignment, condition, "test").accuracy[0])
        assert score.costs == problem.cost(assignment)
        assert score.costs["bops"] <= 0.2 + 1e-12
        assert score.reward == pytest.approx(0.8 * score.accuracy + 0.2 * (1 - score.costs["bops"]))
        assert score.optimum == problem.optimum(condition, task).reward
        assert score.reward <= score.optimum
    assert sum(score.share for score in result.scores) == pytest.approx(1)
    assert result.spent["evaluations"] == 2 * 9
    assert result.images == {"search": 2000, "test": 2000}
    assert len(result.source) == 64
    assert {"processor", "python", "numpy", "gymnasium"} <= set(result.machine)


def test_uniform_bits_are_the_best_that_keep_to_the_budget(result: Result) -> None:
    env = environment_of(JOB)
    problem, task = env.problem, env.core.task
    space = Space(problem, task)
    fitting = [[place] * len(space.options) for place in range(5)]
    every = [
        scores_of(Rule.static(problem, space.assignment(places)), problem, task)
        for places in fitting
        if space.fits(places)
    ]
    assert len(every) == 2  # 2 and 3 bits
    rewards = [sum(own.share * own.reward for own in scores) for scores in every]
    assert result.uniform == every[rewards.index(max(rewards))]


def test_the_curve_ends_with_the_best_that_was_tried(result: Result) -> None:
    # what run_proposals returns is the best that it tried
    assert [count for count, _ in result.curve] == [9, 10, 18]
    rewards = [reward for _, reward in result.curve]
    assert rewards == sorted(rewards)
    assert result.curve[-1] == (18, pytest.approx(result.reward))


def test_the_curve_is_the_best_so_far_at_each_mark() -> None:
    problem = TableProblem(load_table("resnet8-fashion-mnist"), ["clean", "jpeg/3"])
    task = Task(budget=Budget(Bops(), 0.3))
    metered = MeteredProblem(problem, 60)
    Tiny(count=30).search(metered, task, 60, 0)
    curve = curve_of(metered.trials, 60, problem, task)
    assert [count for count, _ in curve] == [2, 5, 10, 20, 50, 60]
    for count, reward in curve:
        tried = metered.trials[:count]
        best = [
            max(_reward(problem, task, own) for own in tried if own.condition == condition)
            for condition in problem.mixture.conditions
        ]
        assert reward == pytest.approx(np.mean(best))


def _reward(problem: TableProblem, task: Task, trial: Any) -> float:
    costs = {name: np.array([own]) for name, own in problem.cost(trial.assignment).items()}
    return float(task.reward(Outcome(np.array([trial.accuracy]), np.array([trial.loss])), costs)[0])


def test_probes_beyond_the_budget_are_no_part_of_the_curve() -> None:
    job = replace(JOB, agent="tests.benchmark.searchers:Probing", settings={})
    found = run_job(job)
    assert found.spent["evaluations"] == 18
    assert [count for count, _ in found.curve] == [18]
    assert found.curve[-1][1] == pytest.approx(found.reward)


def test_an_agent_that_evaluates_nothing_has_no_curve() -> None:
    job = replace(JOB, agent="baselines.uniform:Uniform", settings={"bits": 2})
    found = run_job(job)
    assert found.curve == []
    assert found.spent["evaluations"] == 0


def test_a_searcher_does_not_see_test() -> None:
    with pytest.raises(SearchError, match="'search' alone"):
        run_job(replace(JOB, agent="tests.benchmark.searchers:Nosy", settings={}))


def test_a_table_cannot_be_fine_tuned() -> None:
    with pytest.raises(ResultError, match="no network to train"):
        run_job(replace(JOB, fine_tune={"images": 8}))


def test_a_live_network_is_scored_on_all_images(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = make_tiny_problem()
    env = BitWidthEnv(problem, Task(budget=Budget(Bops(), 0.4)))
    found = run_in(env, replace(JOB, id="DQMQ-v0", env={}))
    assert found.images == {"search": 50, "test": 40}
    assert found.spent == {"evaluations": 12, "images_evaluated": 240, "images_trained": 0}
    for score in found.scores:
        assignment = Rule.from_dict(found.rule)[score.condition]
        again = problem.evaluate(assignment, score.condition, "test").accuracy[0]
        assert score.test == again
        assert score.optimum is None
    assert Result.from_json(found.to_json()) == found


def test_a_network_is_trained_at_the_bits_found(
    make_tiny_problem: Callable[..., NetworkProblem], tmp_path: Path
) -> None:
    env = BitWidthEnv(make_tiny_problem(), Task(budget=Budget(Bops(), 0.4)))
    job = replace(JOB, id="DQMQ-v0", env={}, fine_tune={"images": 64, "batch": 16})
    path, folder = tmp_path / "result.json", tmp_path / "work"
    found = run_in(env, job, folder)
    assert all(score.tuned is not None for score in (*found.scores, *found.uniform))
    kept = {path: path.read_bytes() for path in tmp_path.rglob("state.dqmq")}
    assert len(kept) == 2
    # without a folder everything is trained again; with it the state on disk is at the end already
    assert run_in(env, job).scores == found.scores
    assert list(replay(env, path, found, folder)) == []
    assert {path: path.read_bytes() for path in kept} == kept
    first, *others = found.scores
    assert first.tuned is not None
    wrong = replace(found, scores=[replace(first, tuned=first.tuned + 0.1), *others])
    (mismatch,) = replay(env, path, wrong, folder)
    assert mismatch.what == "tuned"
    assert list(replay(env, path, wrong, tmp_path / "nowhere")) == []


def test_fine_tuning_is_seeded_by_the_job() -> None:
    job = replace(JOB, fine_tune={"images": 64})
    assert schedule_of(job).seed == job.seed
    assert schedule_of(replace(job, fine_tune={"images": 64, "seed": 7})).seed == 7


def test_an_environment_is_made_once_for_jobs_in_a_row() -> None:
    one = environment_of(JOB)
    assert environment_of(replace(JOB, seed=9)) is one
    assert environment_of(replace(JOB, env={"budget": 0.5})) is not one


def test_the_source_is_that_of_the_agent_too(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from dqmq_env.benchmark.provenance import source_digest; print(source_digest('mine.own'))"
    )
    (tmp_path / "mine").mkdir()
    digests = set()
    for content in ("a = 1\n", "a = 2\n"):
        (tmp_path / "mine" / "__init__.py").write_text(content)
        command = [sys.executable, "-c", code, str(tmp_path)]
        digests.add(subprocess.run(command, capture_output=True, check=True).stdout)
    assert len(digests) == 2
