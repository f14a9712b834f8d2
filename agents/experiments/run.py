"""Runs an experiment: every method at every budget by every seed, in processes of one thread.

A result is a file; what is there is not done again unless its method has changed. A run that was
killed goes on within its training, so that the same command given again ends with the same files.
"""

import json
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from functools import lru_cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import torch

from agents.experiments.judge import judge
from agents.experiments.methods import METHODS, recipe_of
from agents.experiments.result import Run, RunResult
from agents.experiments.study import Study
from dqmq_env.benchmark.plain import make
from dqmq_env.benchmark.provenance import machine
from dqmq_env.errors import ResultError
from dqmq_env.progress import progress
from dqmq_env.training.run_folder import working_in


def runs_of(study: Study) -> list[Run]:
    """All runs of a study, seed by seed, so that what is done first can be compared.

    Raises:
        ResultError: there is no such method.
    """
    unknown = sorted(set(study.methods) - set(METHODS))
    if unknown:
        raise ResultError(f"methods: got {unknown}, allowed are {list(METHODS)}")
    return [
        Run(method, budget, seed)
        for seed, budget, method in product(study.seeds, study.budgets, study.methods)
    ]


def run_study(study: Study, folder: Path, jobs: int) -> list[str]:
    """Do what is not done yet.

    Args:
        study: which.
        folder: gets ``settings.json``, ``results/`` and, while runs go on, ``work/``.
        jobs: processes side by side.

    Returns:
        What went wrong, a line for each run.

    Raises:
        ResultError: there is no such method, or ``jobs`` is below 1.
        CheckpointError: the folder holds another study, or another process works in it.
    """
    if jobs < 1:
        raise ResultError(f"jobs: got {jobs}, allowed are 1 and more")
    runs = runs_of(study)
    settings = asdict(study)
    for name in ("seeds", "methods", "budgets", "data", "checkpoints"):
        del settings[name]  # a study may grow, and what it needs may move
    with working_in(folder, json.loads(json.dumps(settings))):
        return _do_what_is_left(study, runs, folder, jobs)


def _do_what_is_left(study: Study, runs: Sequence[Run], folder: Path, jobs: int) -> list[str]:
    (folder / "results").mkdir(exist_ok=True)
    left = [run for run in runs if not _is_done(run, folder / "results")]
    failed: list[str] = []
    text = json.dumps(asdict(study))
    with (
        ProcessPoolExecutor(jobs, get_context("spawn")) as pool,
        progress(len(runs), study.name, "run", len(runs) - len(left)) as bar,
    ):
        waiting: dict[Future[None], Run] = {
            pool.submit(perform, text, run, folder): run for run in left
        }
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                run = waiting.pop(future)
                error = future.exception()
                if error is not None:
                    failed.append(f"{run.method} at {run.budget} by seed {run.seed}: {error!r}")
                bar.update()
    if not failed:
        shutil.rmtree(folder / "work", ignore_errors=True)
    return failed


def perform(text: str, run: Run, folder: Path) -> None:
    """Do one run and write its result; what a process is given.

    Args:
        text: the study as JSON.
        run: which.
        folder: of the experiment.
    """
    torch.set_num_threads(1)
    study = _study(text)
    work = folder / "work" / run.slug
    start = time.perf_counter()
    trained = METHODS[run.method](study, run.budget, run.seed, work)
    seconds = time.perf_counter() - start
    bits = trained.assignment
    RunResult(
        run=run,
        recipe=recipe_of(run.method),
        rows=judge(study, trained.network),
        assignment=None if bits is None else {name: list(own) for name, own in bits.items()},
        images_evaluated=trained.images_evaluated,
        images_trained=trained.images_trained,
        seconds=round(seconds, 1),
        machine=machine(),
    ).save(folder / "results")
    shutil.rmtree(work, ignore_errors=True)  # what runs share stays to the end


def _is_done(run: Run, results: Path) -> bool:
    """Whether there is a result, of the method as it is now."""
    path = results / f"{run.slug}.json"
    return path.is_file() and RunResult.load(path).recipe == recipe_of(run.method)


@lru_cache(maxsize=1)  # a process does one run after another
def _study(text: str) -> Study:
    fields = json.loads(text)
    return make(Study, {name: own for name, own in fields.items() if own is not None}, "study")
