"""The folder of a benchmark: what was asked for, what came of it, what failed.

| path | content |
|---|---|
| ``suite.json`` | the suite, and the version of the package that it was begun with |
| ``results/<key>.json`` | the result of a job, written whole or not at all |
| ``failures/<key>.json`` | a job that failed, and the traceback of each attempt |
| ``damaged/`` | files of the two folders above that could not be read; their jobs are done again |
| ``work/<digest>/`` | the state of fine-tuning, from which it goes on, and which replays it |
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from dqmq_env.benchmark.job import Job, Result
from dqmq_env.benchmark.suite import Suite
from dqmq_env.errors import ResultError
from dqmq_env.files import atomic_write_text
from dqmq_env.version import __version__

SUITE_SCHEMA: Final = "dqmq-suite/1"
FAILURE_SCHEMA: Final = "dqmq-failure/1"


@dataclass(frozen=True)
class Failure:
    """A job without a result.

    Attributes:
        job: which.
        tracebacks: what each attempt ended with, in order.
        path: where this is kept.
    """

    job: Job
    tracebacks: tuple[str, ...]
    path: Path

    @property
    def reason(self) -> str:
        """The line of the last traceback that names the error."""
        return self.tracebacks[-1].strip().splitlines()[-1]


class Store:
    """The folder of a suite; :meth:`claim` makes one.

    Several processes may share it, on one machine or on several, where each has jobs of its own.

    Args:
        folder: see the module.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def claim(cls, folder: Path, suite: Suite) -> "Store":
        """Make the folder of a suite, or go on with it.

        Args:
            folder: made where it is missing.
            suite: what is asked for.

        Raises:
            ResultError: the folder is of another suite or another version, or cannot be read.
        """
        path = folder / "suite.json"
        asked = {"schema": SUITE_SCHEMA, "version": __version__, "suite": suite.to_dict()}
        if path.is_file():
            _check_suite(path, asked)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write_text(path, json.dumps(asked, indent=1) + "\n")
        return cls(folder)

    def result(self, job: Job) -> Result | None:
        """The result of a job, if there is one; a damaged or foreign file is set aside."""
        path = self._path("results", job)
        if not path.is_file():
            return None
        try:
            return read_result(path)
        except ResultError:
            self._set_aside(path)
            return None

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Those of some jobs that have no result, in order; those that failed among them."""
        return [job for job in jobs if self.result(job) is None]

    def save(self, job: Job, text: str) -> Result:
        """Keep the result of a job.

        Args:
            job: which.
            text: what :meth:`~dqmq_env.benchmark.job.Result.to_json` gave.

        Raises:
            ResultError: the text is no result, or that of another job.
        """
        result = Result.from_json(text)
        if result.job.key != job.key:
            raise ResultError(f"result: got that of job {result.job.key}, asked for was {job.key}")
        self._write(self._path("results", job), text)
        return result

    def fail(self, job: Job, traceback: str) -> Failure:
        """Keep what an attempt ended with, after those before it."""
        before = self.failure(job)
        tracebacks = (*(before.tracebacks if before else ()), traceback)
        path = self._path("failures", job)
        content = {"schema": FAILURE_SCHEMA, "job": asdict(job), "tracebacks": tracebacks}
        self._write(path, json.dumps(content, indent=1) + "\n")
        return Failure(job, tracebacks, path)

    def failure(self, job: Job) -> Failure | None:
        """What the attempts at a job ended with; a damaged file is set aside."""
        path = self._path("failures", job)
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            tracebacks = tuple(map(str, content["tracebacks"]))
            if content["schema"] != FAILURE_SCHEMA or not any(map(str.strip, tracebacks)):
                raise ValueError("not a failure")
        except (ValueError, KeyError, TypeError, RecursionError):
            self._set_aside(path)
            return None
        return Failure(job, tracebacks, path)

    @property
    def work(self) -> Path:
        """Folder of the states of fine-tuning, as an absolute path; it need not exist."""
        return (self.folder / "work").resolve()

    def _path(self, kind: str, job: Job) -> Path:
        return self.folder / kind / f"{job.key}.json"

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(path, text)

    def _set_aside(self, path: Path) -> None:
        """Move a file to where nothing reads it."""
        folder = self.folder / "damaged"
        folder.mkdir(exist_ok=True)
        free = (folder / f"{path.parent.name}-{path.stem}.{number}.json" for number in count(1))
        os.replace(path, next(place for place in free if not place.exists()))


def read_result(path: Path) -> Result:
    """Read a file of results.

    Raises:
        ResultError: it is damaged, or its name is not the key of its job.
    """
    try:
        result = Result.from_json(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ResultError) as error:
        raise ResultError(f"{path}: {error}") from error
    if result.job.key != path.stem:
        raise ResultError(f"{path}: it is the result of job {result.job.key}")
    return result


def result_paths(folder: Path) -> list[Path]:
    """The files of results in a folder of a benchmark.

    Raises:
        ResultError: there are none.
    """
    paths = sorted((folder / "results").glob("*.json"))
    if not paths:
        raise ResultError(f"run: there are no results/*.json in {folder}")
    return paths


def _check_suite(path: Path, asked: dict[str, Any]) -> None:
    """Refuse a folder that was begun with something else."""
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
        schema, version, suite = begun["schema"], begun["version"], begun["suite"]
        name = suite["name"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ResultError(
            f"--run: {path} cannot be read; choose another folder, or remove that file if the "
            f"folder is of the suite {asked['suite']['name']!r}: {error!r}"
        ) from error
    if schema != SUITE_SCHEMA or version != asked["version"]:
        raise ResultError(
            f"--run: {path.parent} was begun with version {version} ({schema}), this is "
            f"{asked['version']} ({SUITE_SCHEMA}); choose another folder, or install "
            f"dqmq-env=={version}"
        )
    if suite != asked["suite"]:
        raise ResultError(
            f"--run: {path.parent} was begun with another suite, or with {name!r} before it was "
            "changed; choose another folder"
        )
