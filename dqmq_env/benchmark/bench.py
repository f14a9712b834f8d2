"""Run a suite of agents, tasks and seeds, on this machine or on many.

Every run is a job of its own, whose result is a file in the folder of --run, written whole or not
at all. A suite that was interrupted goes on when the same command is given again: only what is
missing or has failed is done. A result that was damaged is set aside, and its job done again. Exit
status 1 says that a job failed.

Examples:
  dqmq bench smoke --run runs/smoke --jobs 2     # a shipped suite: seconds
  PYTHONPATH=. dqmq bench my.toml --run runs/my  # your own, with agents of modules in this folder
  dqmq bench tabular --run /shared/t --shard 0/2 # and 1/2 on another machine: one folder for both
  dqmq bench tabular --run runs/t --backend ray --address auto --jobs 64
  dqmq bench live --run runs/l --backend slurm --slurm.partition cpu --jobs 100
  dqmq bench --verify runs/smoke                 # evaluate every reported assignment again
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

import dqmq_env  # noqa: F401 - registers the environments
from dqmq_env.benchmark.backends.local import LocalBackend
from dqmq_env.benchmark.backends.protocol import Backend, compute_on_one_thread
from dqmq_env.benchmark.backends.ray import RayBackend
from dqmq_env.benchmark.backends.slurm import SlurmArguments, SlurmBackend
from dqmq_env.benchmark.job import Job
from dqmq_env.benchmark.resolve import check_jobs
from dqmq_env.benchmark.runner import Tally, run_jobs
from dqmq_env.benchmark.store import Store, result_paths
from dqmq_env.benchmark.suite import load_suite
from dqmq_env.benchmark.verify import TOLERANCE, Mismatch, verify
from dqmq_env.errors import SettingError
from dqmq_env.program import one_line_errors
from dqmq_env.progress import progress
from dqmq_env.shard import Shard

_INTERRUPTED = 130


@dataclass(frozen=True)
class BenchArguments:
    """Which suite, where its results go, and where it runs.

    Attributes:
        suite: name of a shipped suite, or path of a TOML file.
        run: folder of the results; runs/NAME of the suite when left out.
        jobs: how many run at a time, each on one thread.
        backend: local for processes of this machine; ray and slurm need the extra of that name.
        address: of Ray: local begins it on this machine, auto finds the cluster.
        slurm: what each job asks of Slurm.
        shard: i/n does one of n parts, from 0; machines that share the folder each take one.
        retries: how often a job is begun again when its worker dies.
        limit: the most jobs to do in this call; all when left out.
        tuning: run the seeds that settings are chosen by, instead of those that are reported.
        verify: folder of results to evaluate again; nothing else is done.
    """

    suite: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SUITE")] = ""
    run: Path | None = None
    jobs: int = 1
    backend: Literal["local", "ray", "slurm"] = "local"
    address: str = "local"
    slurm: SlurmArguments = field(default_factory=SlurmArguments)
    shard: str = "0/1"
    retries: int = 3
    limit: int | None = None
    tuning: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    verify: Path | None = None


def bench(arguments: BenchArguments) -> int:
    """Do the jobs of a suite that are missing; returns the exit status.

    Raises:
        DQMQError: the suite, one of its jobs, or an argument is wrong; nothing has been run.
    """
    _check_counts(arguments)
    suite = load_suite(arguments.suite)
    if arguments.tuning:
        suite = suite.for_tuning()
    shard = Shard.parse(arguments.shard)
    jobs = [job for job in suite.jobs() if shard.has(int(job.key, 16))]
    check_jobs(jobs)
    folder = arguments.run or Path("runs") / suite.name
    backend = _backend(arguments, folder)
    store = Store.claim(folder, suite)
    missing = store.missing(jobs)
    tally = Tally()
    if missing:
        _run(arguments, store, jobs, missing, backend, tally)
    return _report(tally, len(jobs), len(missing), folder)


def verify_folder(folder: Path) -> int:
    """Evaluate again what the results in a folder report; returns the exit status.

    Raises:
        ResultError: there are no results.
    """
    paths = result_paths(folder)
    compute_on_one_thread()
    with progress(len(paths), "verify", "result") as bar:
        found = list(verify(paths, (folder / "work").resolve(), lambda: bar.update()))
    if found:
        _print_mismatches(found)
    wrong = len({mismatch.path for mismatch in found})
    print(
        f"{len(paths) - wrong} of {len(paths)} results came out again: exactly, or within "
        f"{TOLERANCE} on a live network where processor or torch are others"
    )
    return 1 if found else 0


def main(words: list[str] | None = None) -> None:
    """Entry point of ``dqmq bench``."""
    with one_line_errors("dqmq bench"):
        arguments = tyro.cli(BenchArguments, description=__doc__, args=words, prog="dqmq bench")
        status = bench(arguments) if arguments.verify is None else verify_folder(arguments.verify)
    if status:
        sys.exit(status)


def _check_counts(arguments: BenchArguments) -> None:
    for name, least in (("jobs", 1), ("retries", 0), ("limit", 1)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise SettingError(f"--{name}: got {value}, allowed are {least} and more")


def _backend(arguments: BenchArguments, folder: Path) -> Backend:
    if arguments.backend == "ray":
        return RayBackend(arguments.address, arguments.jobs)
    if arguments.backend == "slurm":
        return SlurmBackend(folder / "slurm", arguments.slurm)
    return LocalBackend()


def _run(
    arguments: BenchArguments,
    store: Store,
    jobs: list[Job],
    missing: list[Job],
    backend: Backend,
    tally: Tally,
) -> None:
    """Run what is missing, beneath a bar that shows how long it takes."""
    asked = missing[: arguments.limit]
    done = len(jobs) - len(missing)
    try:
        with backend, progress(len(jobs), store.folder.name, "job", done) as bar:
            run_jobs(
                store,
                asked,
                backend,
                arguments.jobs,
                arguments.retries,
                tally,
                lambda: bar.update(),
            )
    except KeyboardInterrupt:
        tally.interrupted = True


def _report(tally: Tally, jobs: int, missing: int, folder: Path) -> int:
    """Print what came of a call; returns the exit status."""
    for failure in tally.failed:
        job = failure.job
        print(
            f"failed: {job.label or job.agent} on {job.task} by seed {job.seed}: "
            f"{failure.reason}  ({failure.path})"
        )
    done, failed = len(tally.done), len(tally.failed)
    print(
        f"{jobs - missing + done} of {jobs} jobs done ({done} now), {failed} failed, "
        f"{missing - done - failed} left: {folder}"
    )
    if tally.interrupted:
        print("interrupted: the same command goes on")
        return _INTERRUPTED
    return 1 if failed else 0


def _print_mismatches(found: list[Mismatch]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="what did not come out again")
    for heading in ("result", "of", "number", "reported", "found"):
        table.add_column(heading, overflow="fold")
    for own in found:
        table.add_row(own.path.stem, own.where, own.what, own.reported, own.found)
    Console().print(table)


if __name__ == "__main__":
    main()
