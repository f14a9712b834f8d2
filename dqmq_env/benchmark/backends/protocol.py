"""What a backend is, and what each of its workers does.

Workers send back text; results and failures are written by the process that asked for them. So no
backend needs a file system that all machines share, but for the state of fine-tuning to outlive a
machine.
"""

import os
import sys
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self

from dqmq_env.benchmark.job import Job
from dqmq_env.errors import SettingError


@dataclass(frozen=True)
class Done:
    """A job that ended with a result.

    Attributes:
        job: which.
        text: of the result, as JSON.
    """

    job: Job
    text: str


@dataclass(frozen=True)
class Failed:
    """A job that raised an error; it would do so again.

    Attributes:
        job: which.
        traceback: of the error.
    """

    job: Job
    traceback: str


@dataclass(frozen=True)
class Died:
    """A job whose worker ended before it did; another attempt may succeed.

    Attributes:
        job: which.
        reason: what is known of the end.
    """

    job: Job
    reason: str


Ended = Done | Failed | Died


class Backend(Protocol):
    """Runs jobs elsewhere; closed by the ``with`` statement that it is used in."""

    def submit(self, job: Job, work: Path) -> None:
        """Begin a job.

        Args:
            job: which.
            work: folder of the state of fine-tuning.
        """
        ...

    def wait(self) -> Ended:
        """Wait until one of the submitted jobs has ended; each is returned once."""
        ...

    def __enter__(self) -> Self:
        """Make ready for jobs."""
        ...

    def __exit__(self, *error: object) -> None:
        """End all workers at once, whatever they are at."""
        ...


def perform(job: Job, work: Path) -> Done | Failed:
    """Run a job in this process, on one thread, and tell what came of it."""
    compute_on_one_thread()
    try:
        from dqmq_env.benchmark.run_job import run_job

        return Done(job, run_job(job, work).to_json())
    except (Exception, SystemExit):
        return Failed(job, traceback.format_exc())


def compute_on_one_thread() -> None:
    """Have torch compute on one thread in this process, whether or not it is loaded yet."""
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def extra(module: str, name: str) -> Any:
    """Import a package that an extra of this one brings.

    Args:
        module: of the package.
        name: of the extra.

    Raises:
        SettingError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise SettingError(
            f"--backend: {name} needs the package {module!r}, which cannot be imported ({error}); "
            f'pip install "dqmq-env[{name}]"'
        ) from error
