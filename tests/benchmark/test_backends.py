"""Jobs survive the workers that they run on, whatever these are."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dqmq_env.benchmark.backends.local import LocalBackend
from dqmq_env.benchmark.backends.protocol import Backend, Died, Done, Failed, extra
from dqmq_env.benchmark.backends.ray import RayBackend
from dqmq_env.benchmark.backends.slurm import SlurmArguments, SlurmBackend
from dqmq_env.benchmark.job import Job, Result
from dqmq_env.benchmark.run_job import run_job
from dqmq_env.benchmark.runner import Tally, run_jobs
from dqmq_env.benchmark.store import Store
from dqmq_env.errors import SettingError

ROOT = Path(__file__).parents[2]
TABULAR = "DQMQ-ResNet8-Tabular-v0"


def tiny(seed: int, **settings: Any) -> Job:
    return Job("tests.benchmark.searchers:Tiny", TABULAR, 100, seed, settings)


def fatal(folder: Path, deaths: int, seed: int = 0) -> Job:
    settings = {"folder": str(folder), "deaths": deaths}
    return Job("tests.benchmark.searchers:Fatal", TABULAR, 100, seed, settings)


def wrong(folder: Path) -> Job:
    return Job("tests.benchmark.searchers:Wrong", TABULAR, 100, 0, {"cured": str(folder / "cured")})


def deaths_in(folder: Path) -> int:
    return len(list(folder.glob("death-*")))


def run(store: Store, jobs: list[Job], backend: Backend, retries: int = 3) -> Tally:
    tally = Tally()
    with backend:
        run_jobs(store, jobs, backend, 2, retries, tally)
    return tally


def check_done(store: Store, jobs: list[Job]) -> None:
    """Each has the result that it has in this process."""
    for job in jobs:
        result = store.result(job)
        assert result is not None
        assert result.scores == run_job(job).scores


def test_local_workers_that_die_lose_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    good = [tiny(seed) for seed in range(4)]
    once, always = fatal(tmp_path, 1), fatal(tmp_path, 99, seed=1)
    tally = run(store, [once, always, *good, wrong(tmp_path)], LocalBackend(), retries=2)
    assert sorted(job.key for job in tally.done) == sorted(job.key for job in [once, *good])
    check_done(store, good)
    assert store.result(once) is not None
    failed = {failure.job.agent.partition(":")[2]: failure for failure in tally.failed}
    assert set(failed) == {"Fatal", "Wrong"}
    # begun, and begun again twice
    assert len(failed["Fatal"].tracebacks) == 3
    assert "SIGKILL" in failed["Fatal"].reason
    assert deaths_in(tmp_path) == 1 + 3
    # an error would come again: one attempt
    assert failed["Wrong"].reason == "ZeroDivisionError: on purpose"
    assert len(failed["Wrong"].tracebacks) == 1
    assert "in search" in failed["Wrong"].tracebacks[0]
    before = store.failure(once)
    assert before is not None
    assert len(before.tracebacks) == 1


def test_local_workers_are_gone_when_the_backend_is_left(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with LocalBackend() as backend:
        for seed in range(2):
            backend.submit(tiny(seed, seconds=60, log=str(tmp_path / "log")), Path())
        _begun(tmp_path, 2)
        assert len(_children(os.getpid())) == 2
        started = time.monotonic()
    assert time.monotonic() - started < 20
    assert not _children(os.getpid())


def test_a_worker_that_died_idle_is_no_matter() -> None:
    with LocalBackend() as backend:
        backend.submit(tiny(0), Path())
        assert isinstance(backend.wait(), Done)
        (child,) = _children(os.getpid())
        os.kill(child, signal.SIGKILL)
        time.sleep(0.1)
        backend.submit(tiny(1), Path())
        ended = backend.wait()
        if isinstance(ended, Died):
            backend.submit(ended.job, Path())
            ended = backend.wait()
    assert isinstance(ended, Done)
    assert Result.from_json(ended.text).job == tiny(1)


SUITE = """
name = "slow"
evaluations = 100
seeds = {{ first = 0, count = 6 }}
[[tasks]]
id = "DQMQ-ResNet8-Tabular-v0"
[[agents]]
agent = "tests.benchmark.searchers:Tiny"
settings = {{ log = "{log}", seconds = {seconds} }}
"""


@contextmanager
def command(folder: Path, seconds: float) -> Iterator["subprocess.Popen[str]"]:
    """`dqmq bench` with two workers, in a session of its own."""
    (folder / "log").mkdir(exist_ok=True)
    suite = folder / "slow.toml"
    suite.write_text(SUITE.format(log=folder / "log", seconds=seconds))
    words = [sys.executable, "-m", "dqmq_env.benchmark.bench", str(suite), "--jobs", "2"]
    process = subprocess.Popen(
        [*words, "--run", str(folder / "run")],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_as_in_a_terminal,
    )
    with process:
        yield process


def _as_in_a_terminal() -> None:
    """Where a shell has begun the tests in the background, they are told to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _begun(folder: Path, count: int) -> None:
    """Wait until so many searches have begun."""
    end = time.monotonic() + 60
    while len(list((folder / "log").iterdir())) < count:
        assert time.monotonic() < end, "searches do not begin"
        time.sleep(0.02)


def _children(parent: int) -> set[int]:
    """Processes that a process has started, but for those that multiprocessing keeps itself."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (path / "stat").read_text().rpartition(")")[2].split()
            words = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if int(after_name[1]) == parent and after_name[0] != "Z" and b"spawn_main" in words:
            found.add(int(path.name))
    return found


def test_a_killed_command_leaves_no_workers_and_is_taken_up_again(tmp_path: Path) -> None:
    with command(tmp_path, 0.4) as process:
        _begun(tmp_path, 3)
        workers = _children(process.pid)
        assert len(workers) == 2
        process.kill()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < end, "workers outlive the command"
        time.sleep(0.05)
    done = {path.name for path in (tmp_path / "run" / "results").glob("*.json")}
    assert 1 <= len(done) < 6
    begun = len(list((tmp_path / "log").iterdir()))
    with command(tmp_path, 0.4) as process:
        shown, errors = process.communicate()
        assert process.returncode == 0, errors
    assert f"6 of 6 jobs done ({6 - len(done)} now)" in shown
    assert len(list((tmp_path / "log").iterdir())) == begun + 6 - len(done)


def test_an_interrupted_command_says_that_it_can_go_on(tmp_path: Path) -> None:
    with command(tmp_path, 30) as process:
        _begun(tmp_path, 2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: workers are told too
        shown, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "0 of 6 jobs done (0 now), 0 failed, 6 left" in shown
    assert "the same command goes on" in shown
    assert "Traceback" not in errors


@pytest.fixture
def submitit(monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("submitit", reason="the extra 'slurm' is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # how long it waits for the result of a job that has ended to come up in a slow file system
    monkeypatch.setattr(package.Job, "_results_timeout_s", 1)


@pytest.mark.usefixtures("submitit")
def test_slurm_jobs_that_die_are_sent_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    good, once = tiny(0), fatal(tmp_path, 1)
    backend = SlurmBackend(tmp_path / "slurm", SlurmArguments(cluster="local", minutes=2))
    tally = run(store, [once, good], backend)
    assert {job.key for job in tally.done} == {once.key, good.key}
    check_done(store, [good])
    assert deaths_in(tmp_path) == 1
    failure = store.failure(once)
    assert failure is not None
    assert "Slurm" in failure.tracebacks[0]


@pytest.mark.usefixtures("submitit")
def test_a_machine_without_slurm_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SettingError, match="slurm cannot be used here"):
        SlurmBackend(tmp_path, SlurmArguments()).__enter__()


@pytest.mark.parametrize("name", ["ray", "slurm"])
def test_an_extra_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(SettingError, match=rf'pip install "dqmq-env\[{name}\]"'):
        extra("no_such_module", name)


ray_quietly = pytest.mark.filterwarnings(
    # of Ray's own: sockets and log files that it leaves open
    "ignore::ResourceWarning",
    "ignore::FutureWarning:ray.*",
    "ignore::DeprecationWarning:ray.*",
)


@ray_quietly
def test_a_killed_worker_of_ray_loses_nothing(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    store = Store(tmp_path / "run")
    good, once = [tiny(0), tiny(1)], fatal(tmp_path, 1)
    tally = run(store, [once, *good, wrong(tmp_path)], RayBackend("local", 2))
    assert len(tally.done) == 3
    check_done(store, good)
    assert [failure.reason for failure in tally.failed] == ["ZeroDivisionError: on purpose"]
    before = store.failure(once)
    assert before is not None
    assert "WorkerCrashedError" in before.reason


@ray_quietly
def test_a_node_of_ray_that_is_lost_loses_nothing(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    (tmp_path / "log").mkdir()
    store = Store(tmp_path / "run")
    jobs = [tiny(seed, log=str(tmp_path / "log"), seconds=5 - 5 * seed) for seed in range(2)]
    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        node = cluster.add_node(num_cpus=1)
        tally = Tally()
        with RayBackend(cluster.address, 1) as backend:
            runner = threading.Thread(
                target=run_jobs, args=(store, jobs, backend, 1, 3, tally), daemon=True
            )
            runner.start()
            _begun(tmp_path, 1)
            cluster.remove_node(node)
            cluster.add_node(num_cpus=1)
            runner.join(90)
        assert [job.seed for job in tally.done] == [1, 0]
    finally:
        cluster.shutdown()
    check_done(store, [jobs[1]])
    assert store.failure(jobs[0]) is not None
    assert not tally.failed


@ray_quietly
def test_ray_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SettingError, match="no Ray answers there"):
        RayBackend("auto", 1).__enter__()


def test_a_failure_is_json_that_says_which_job(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    tally = run(store, [wrong(tmp_path)], LocalBackend())
    (failure,) = tally.failed
    content = json.loads(failure.path.read_text())
    assert content["job"]["agent"] == "tests.benchmark.searchers:Wrong"
    (tmp_path / "cured").touch()
    again = run(store, store.missing([wrong(tmp_path)]), LocalBackend())
    assert not again.failed
    assert store.missing([wrong(tmp_path)]) == []


def test_a_worker_tells_of_an_error() -> None:
    with LocalBackend() as backend:
        backend.submit(Job("bogus:X", TABULAR, 1, 0), Path())
        ended = backend.wait()
    assert isinstance(ended, Failed)
    assert "'bogus' cannot be imported" in ended.traceback
