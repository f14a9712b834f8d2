"""Replaying results: what is reported must come out again."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dqmq_env.benchmark.job import Job, Result
from dqmq_env.benchmark.run_job import run_in, run_job
from dqmq_env.benchmark.store import Store, result_paths
from dqmq_env.benchmark.verify import TOLERANCE, Mismatch, replay, verify
from dqmq_env.cli import main
from dqmq_env.costs import Bops
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.task.budget import Budget
from dqmq_env.task.task import Task

JOB = Job("tests.benchmark.searchers:Tiny", "DQMQ-ResNet8-Tabular-v0", 100, 0, env={"budget": 0.3})


@pytest.fixture(scope="module")
def result() -> Result:
    return run_job(JOB)


def replayed(folder: Path, result: Result) -> list[Mismatch]:
    Store(folder).save(result.job, result.to_json())
    return list(verify(result_paths(folder), folder / "work"))


def with_score(result: Result, **changes: Any) -> Result:
    """The first condition's score is another."""
    first, *others = result.scores
    return replace(result, scores=[replace(first, **changes), *others])


def test_honest_results_come_out_again(tmp_path: Path, result: Result) -> None:
    assert replayed(tmp_path, result) == []
    # a table does not depend on the machine
    assert replayed(tmp_path, replace(result, machine={"processor": "another"})) == []


@pytest.mark.parametrize("what", ["reward", "accuracy", "test", "share", "optimum"])
def test_a_number_that_was_tampered_with_is_found(
    tmp_path: Path, result: Result, what: str
) -> None:
    value = getattr(result.scores[0], what)
    (found,) = replayed(tmp_path, with_score(result, **{what: value + 0.0005}))
    assert (found.what, found.reported, found.found) == (what, str(value + 0.0005), str(value))
    assert result.scores[0].condition in found.where


def test_costs_uniform_bits_and_rules_are_compared_too(tmp_path: Path, result: Result) -> None:
    costs = {**result.scores[0].costs, "bops": 0.01}
    (found,) = replayed(tmp_path, with_score(result, costs=costs))
    assert found.what == "costs"
    uniform = [replace(score, test=1.0) for score in result.uniform]
    assert len(replayed(tmp_path, replace(result, uniform=uniform))) == len(uniform)
    other = dict.fromkeys(result.rule, result.rule["clean"])
    assert replayed(tmp_path, replace(result, rule=other))


def test_a_rule_that_cannot_be_replayed_is_found(tmp_path: Path, result: Result) -> None:
    wide = {name: [8, 8] for name in result.rule["clean"]}
    beyond = replace(result, rule={**result.rule, "clean": wide})
    (found,) = replayed(tmp_path, beyond)
    assert "the budget is 0.3" in found.found
    odd = replace(result, rule={**result.rule, "clean": {"layer": [8, 8]}})
    assert len(replayed(tmp_path, odd)) == 1
    less = replace(result, rule={"clean": result.rule["clean"]})
    (found,) = replayed(tmp_path, less)
    assert found.what == "conditions"
    (found,) = replayed(tmp_path, replace(result, scores=result.scores[1:]))
    assert found.what == "conditions"


def test_a_damaged_result_is_found_and_left_where_it_is(tmp_path: Path, result: Result) -> None:
    Store(tmp_path).save(JOB, result.to_json())
    (path,) = result_paths(tmp_path)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    (found,) = verify([path], tmp_path / "work")
    assert "checksum" in found.found
    assert path.is_file()


def test_a_live_network_may_differ_a_little_on_another_machine(
    make_tiny_problem: Callable[..., NetworkProblem], tmp_path: Path
) -> None:
    env = BitWidthEnv(make_tiny_problem(), Task(budget=Budget(Bops(), 0.4)))
    result = run_in(env, replace(JOB, id="DQMQ-v0", env={}))
    elsewhere = {**result.machine, "processor": "another"}

    def differing(machine: Mapping[str, str], **changes: float) -> int:
        changed = replace(with_score(result, **changes), machine=machine)
        return len(list(replay(env, tmp_path / "result.json", changed, tmp_path / "work")))

    test, share = result.scores[0].test, result.scores[0].share
    assert differing(result.machine) == 0
    assert differing(result.machine, test=test + 0.9 * TOLERANCE) == 1
    assert differing(elsewhere, test=test + 0.9 * TOLERANCE) == 0
    assert differing(elsewhere, test=test + 1.1 * TOLERANCE) == 1
    assert differing(elsewhere, share=0.999 * share) == 1


def test_the_command_prints_what_differs(
    tmp_path: Path, result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    store.save(JOB, result.to_json())
    main(["bench", "--verify", str(tmp_path)])
    assert "1 of 1 results came out again" in capsys.readouterr().out
    store.save(JOB, with_score(result, accuracy=0.123).to_json())
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--verify", str(tmp_path)])
    assert stop.value.code == 1
    shown = capsys.readouterr().out
    assert "0.123" in shown
    assert "0 of 1 results came out again" in shown
