"""`dqmq bench`: what is missing is done, once, and nothing else."""

import threading
from pathlib import Path
from typing import Any

import pytest

from dqmq_env.benchmark.backends.local import LocalBackend
from dqmq_env.benchmark.runner import Tally, run_jobs
from dqmq_env.benchmark.store import Store, result_paths
from dqmq_env.benchmark.suite import Suite, load_suite
from dqmq_env.cli import main
from dqmq_env.errors import SettingError
from dqmq_env.shard import Shard

FILE = """
name = "own"
evaluations = 100
seeds = {{ first = 0, count = 4 }}
tuning = [10]
[[tasks]]
id = "DQMQ-ResNet8-Tabular-v0"
[[agents]]
label = "tiny"
agent = "tests.benchmark.searchers:Tiny"
settings = {{ log = "{folder}/log" }}
[[agents]]
label = "wrong"
agent = "tests.benchmark.searchers:Wrong"
settings = {{ cured = "{folder}/cured" }}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    path = tmp_path / "own.toml"
    path.write_text(FILE.format(folder=tmp_path))
    return path


def searches(folder: Path) -> list[str]:
    """The seed of each search that was begun."""
    return sorted(path.name.partition("-")[0] for path in (folder / "log").iterdir())


def status_of(words: list[Any]) -> int:
    try:
        main(["bench", *map(str, words)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_call_does_what_is_missing_or_has_failed(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [suite, "--run", tmp_path / "run"]
    assert status_of([*words, "--limit", 1]) in (0, 1)
    capsys.readouterr()
    assert status_of(words) == 1
    shown = capsys.readouterr().out.splitlines()
    failed = [line for line in shown if line.startswith("failed: wrong on DQMQ-ResNet8-Tabular-v0")]
    assert len(failed) == 4
    for line in failed:
        assert "ZeroDivisionError: on purpose" in line
        assert Path(line.rpartition("(")[2].rstrip(")")).is_file()
    assert shown[-1].startswith("4 of 8 jobs done (3 now), 4 failed, 0 left")
    assert searches(tmp_path) == ["0", "1", "2", "3"]

    (tmp_path / "cured").touch()
    assert status_of(words) == 0
    assert "8 of 8 jobs done (4 now), 0 failed, 0 left" in capsys.readouterr().out
    texts = {path: path.read_bytes() for path in result_paths(tmp_path / "run")}
    assert status_of(words) == 0
    assert "8 of 8 jobs done (0 now)" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in result_paths(tmp_path / "run")} == texts
    assert searches(tmp_path) == ["0", "1", "2", "3"]

    path = result_paths(tmp_path / "run")[0]
    path.write_bytes(path.read_bytes()[:200])
    assert status_of(words) == 0
    assert "8 of 8 jobs done (1 now)" in capsys.readouterr().out
    assert len(list((tmp_path / "run" / "damaged").iterdir())) == 1


def test_machines_that_share_a_folder_do_each_job_once(suite: Path, tmp_path: Path) -> None:
    (tmp_path / "cured").touch()
    jobs = load_suite(suite).jobs()
    shares = [
        [job for job in jobs if Shard(number, 2).has(int(job.key, 16))] for number in range(2)
    ]
    assert all(shares)
    assert sorted(job.key for own in shares for job in own) == sorted(job.key for job in jobs)

    def runner(own: list[Any]) -> None:
        store = Store.claim(tmp_path / "run", load_suite(suite))
        with LocalBackend() as backend:
            run_jobs(store, store.missing(own), backend, 1, 0, Tally())

    threads = [threading.Thread(target=runner, args=(own,)) for own in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert searches(tmp_path) == ["0", "1", "2", "3"]
    store = Store.claim(tmp_path / "run", load_suite(suite))
    assert store.missing(jobs) == []
    assert len(result_paths(tmp_path / "run")) == len(jobs)


def test_one_shard_does_its_own_jobs(suite: Path, tmp_path: Path) -> None:
    (tmp_path / "cured").touch()
    jobs = load_suite(suite).jobs()
    number = int(jobs[0].key, 16) % 3  # keys follow the code's version: another shard may be empty
    own = [job for job in jobs if Shard(number, 3).has(int(job.key, 16))]
    assert status_of([suite, "--run", tmp_path / "run", "--shard", f"{number}/3"]) == 0
    found = {path.stem for path in result_paths(tmp_path / "run")}
    assert found == {job.key for job in own}


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "a/b", "0/0", "1/2/3"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="allowed are 0/n to n-1/n"):
        Shard.parse(text)


def test_settings_are_chosen_in_a_folder_of_their_own(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cured").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    assert status_of([suite, "--tuning"]) == 0
    assert len(result_paths(tmp_path / "runs" / "own-tuning")) == 2
    assert searches(tmp_path) == ["10"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "suite: got none, allowed are"),
        (["bogus"], "suite: got 'bogus', allowed are"),
        (["smoke", "--jobs", "0"], "--jobs: got 0"),
        (["smoke", "--retries", "-1"], "--retries: got -1"),
        (["smoke", "--limit", "0"], "--limit: got 0"),
        (["smoke", "--shard", "5/5"], "--shard: got '5/5'"),
        (["smoke", "--tuning"], "no seeds for tuning"),
        (["--verify", "nowhere"], "there are no results/*.json in nowhere"),
    ],
)
def test_wrong_input_gives_one_line_and_leaves_nothing(
    words: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status_of(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line
    assert list(tmp_path.iterdir()) == []


def test_a_suite_with_one_wrong_job_runs_none(tmp_path: Path, suite: Path) -> None:
    suite.write_text(suite.read_text() + "bogus = 1\n")
    assert status_of([suite, "--run", tmp_path / "run"]) == 2
    assert searches(tmp_path) == []
    assert not (tmp_path / "run").exists()


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "Examples" in shown
    assert "dqmq bench smoke" in shown


def test_suites_are_told_apart_by_what_they_ask_for(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = load_suite(suite)
    assert isinstance(own, Suite)
    Store.claim(tmp_path / "run", own)
    suite.write_text(suite.read_text().replace("count = 4", "count = 5"))
    assert status_of([suite, "--run", tmp_path / "run"]) == 2
    assert "begun with another suite" in capsys.readouterr().err
