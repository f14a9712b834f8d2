"""Suites, and what is refused before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from dqmq_env.benchmark.resolve import check_jobs, shipped_searchers
from dqmq_env.benchmark.suite import Suite, load_suite, suite_names
from dqmq_env.errors import DQMQError, ResultError

TABULAR = "DQMQ-ResNet8-Tabular-v0"
TINY = "tests.benchmark.searchers:Tiny"


def suite_of(**changes: Any) -> Suite:
    data: dict[str, Any] = {
        "name": "own",
        "evaluations": 100,
        "seeds": [0, 1],
        "tasks": [{"id": TABULAR}, {"id": TABULAR, "env": {"budget": 0.3}}],
        "agents": [{"agent": TINY}, {"agent": TINY, "settings": {"count": 4}, "label": "more"}],
    }
    kept = {name: value for name, value in (data | changes).items() if value is not None}
    return Suite.from_dict(kept, "own.toml")


@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_can_be_run(name: str) -> None:
    suite = load_suite(name)
    check_jobs(suite.jobs())
    assert suite.jobs()


def test_the_jobs_are_every_agent_on_every_task_by_every_seed() -> None:
    jobs = suite_of(fine_tune={"images": 10}).jobs()
    assert len({job.key for job in jobs}) == len(jobs) == 2 * 2 * 2
    assert {job.seed for job in jobs} == {0, 1}
    assert {job.task for job in jobs} == {TABULAR, f"{TABULAR} (budget=0.3)"}
    assert {job.label for job in jobs} == {"", "more"}
    assert all(job.fine_tune == {"images": 10} for job in jobs)


def test_a_file_says_the_same_as_the_values(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        f"""
        name = "own"
        evaluations = 100
        seeds = {{ first = 0, count = 2 }}
        [[tasks]]
        id = "{TABULAR}"
        [[tasks]]
        id = "{TABULAR}"
        env = {{ budget = 0.3 }}
        [[agents]]
        agent = "{TINY}"
        [[agents]]
        agent = "{TINY}"
        settings = {{ count = 4 }}
        label = "more"
        """
    )
    assert load_suite(path) == suite_of()
    assert load_suite(str(path)) == suite_of()


def test_a_suite_is_read_back_from_json() -> None:
    suite = suite_of(tuning={"first": 10, "count": 3}, fine_tune={"images": 10})
    assert Suite.from_dict(json.loads(json.dumps(suite.to_dict())), "json") == suite


def test_settings_are_chosen_by_seeds_of_their_own() -> None:
    suite = suite_of(tuning={"first": 10, "count": 3})
    assert {job.seed for job in suite.jobs()} == {0, 1}
    assert {job.seed for job in suite.for_tuning().jobs()} == {10, 11, 12}
    with pytest.raises(ResultError, match="no seeds for tuning"):
        suite_of().for_tuning()


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"tuning": [5, 1]}, r"seeds \[1\], which are reported too"),
        ({"seeds": []}, "seeds: got none"),
        ({"seeds": [1, 1]}, "seeds: got 1 more than once"),
        ({"seeds": [-1]}, "seeds: got -1"),
        ({"seeds": {"first": 0}}, "'count' is missing"),
        ({"seeds": "0 to 9"}, "seeds: got '0 to 9', allowed is tuple"),
        ({"agents": None}, "'agents' is missing"),
        ({"tasks": []}, "tasks: got none"),
        ({"evaluations": "100"}, "evaluations: got '100', allowed is int"),
        ({"evaluations": True}, "evaluations: got True, allowed is int"),
        ({"bogus": 1}, "unknown field 'bogus', allowed are"),
        ({"tasks": [{"name": "x"}]}, "unknown field 'name'"),
        ({"agents": [{"agent": TINY, "label": 3}]}, "label: got 3, allowed is str"),
        ({"agents": [{"agent": TINY}] * 2}, "Tiny .* more than once"),
        (
            {"agents": [{"agent": TINY, "label": "a", "settings": {"count": n}} for n in (1, 2)]},
            "label: got a more than once",
        ),
    ],
)
def test_a_wrong_suite_is_refused(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(ResultError, match=part) as error:
        suite_of(**changes)
    assert str(error.value).startswith("own.toml: ")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"agents": [{"agent": "baselines.bogus:X"}]}, "baselines.random_search:RandomSearch"),
        ({"agents": [{"agent": "bogus_module:X"}]}, "'bogus_module' cannot be imported"),
        ({"agents": [{"agent": "X"}]}, "allowed is 'module:Class'"),
        ({"agents": [{"agent": ":X"}]}, "allowed is 'module:Class'"),
        ({"agents": [{"agent": "baselines.greedy:Bogus"}]}, "has no class 'Bogus'"),
        ({"agents": [{"agent": "tests.benchmark.searchers:Searchless"}]}, "method 'search'"),
        ({"agents": [{"agent": "tests.benchmark.searchers:np"}]}, "has no class 'np'"),
        (
            {"agents": [{"agent": TINY, "settings": {"bogus": 1}}]},
            r"unknown field 'bogus', allowed are \['count', 'scope'",
        ),
        (
            {"agents": [{"agent": TINY, "settings": {"count": 1.5}}]},
            "count: got 1.5, allowed is int",
        ),
        (
            {"agents": [{"agent": TINY, "settings": {"widths": [1, "2"]}}]},
            r"widths: got \[1, '2'\], allowed is tuple\[int, ...\]",
        ),
        (
            {"agents": [{"agent": TINY, "settings": {"share": "half"}}]},
            r"share: got 'half', allowed is float \| None",
        ),
        ({"agents": [{"agent": "tests.benchmark.searchers:Wrong"}]}, "'cured' is missing"),
        ({"tasks": [{"id": "Bogus-v0"}]}, f"'Bogus-v0', allowed are .*{TABULAR}"),
        ({"tasks": [{"id": "CartPole-v1"}]}, "'CartPole-v1', allowed are"),
        ({"tasks": [{"id": "DQMQ-v0"}]}, "'DQMQ-v0', allowed are"),
        ({"tasks": [{"id": "bogus_module:X-v0"}]}, "'bogus_module' cannot be imported"),
        ({"tasks": [{"id": TABULAR, "env": {"bits": [2]}}]}, "unknown field 'bits', allowed are"),
        ({"tasks": [{"id": TABULAR, "env": {"budget": "x"}}]}, "budget: got 'x', allowed is float"),
        ({"tasks": [{"id": TABULAR, "env": {"cost": "money"}}]}, "money"),
        ({"tasks": [{"id": TABULAR, "env": {"weight": 2}}]}, "weight: got 2, allowed are 0 to 1"),
        ({"evaluations": 0}, "evaluations: got 0, allowed are 1 and more"),
        ({"fine_tune": {}}, "has no network to train"),
        ({"fine_tune": {"bogus": 1}}, r"unknown field 'bogus', allowed are \['images'"),
        ({"fine_tune": {"images": "many"}}, "images: got 'many', allowed is int"),
    ],
)
def test_a_wrong_job_is_refused_before_anything_runs(changes: dict[str, Any], part: str) -> None:
    jobs = suite_of(**changes).jobs()
    with pytest.raises(DQMQError, match=part):
        check_jobs(jobs)


def test_ids_with_a_module_before_them_and_whole_numbers_for_floats_are_fine() -> None:
    tasks = [{"id": f"dqmq_env:{TABULAR}", "env": {"budget": 1}}]
    agents = [{"agent": TINY, "settings": {"widths": [2, 4], "share": 1}}]
    check_jobs(suite_of(tasks=tasks, agents=agents).jobs())


def test_what_is_no_suite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"allowed are .*smoke"):
        load_suite("bogus")
    path = tmp_path / "bad.toml"
    path.write_text("name = ")
    with pytest.raises(ResultError, match="no TOML file"):
        load_suite(path)
    path.write_text("name = 1979-05-27")
    with pytest.raises(ResultError, match="JSON"):
        load_suite(path)


def test_the_shipped_searchers_are_known_without_importing_them() -> None:
    known = shipped_searchers()
    assert {"baselines.greedy:GreedySearch", "baselines.uniform:Uniform"} <= set(known)
