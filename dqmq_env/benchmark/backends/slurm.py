"""Jobs as jobs of Slurm, by submitit."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dqmq_env.benchmark.backends.protocol import Died, Ended, Failed, extra, perform
from dqmq_env.benchmark.job import Job
from dqmq_env.errors import SettingError

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class SlurmArguments:
    """What each job asks of Slurm.

    Attributes:
        partition: where jobs run; the cluster's own choice when left out.
        minutes: after which a job is ended.
        memory_gb: of a job.
        cluster: slurm; or local for processes of this machine, without Slurm.
    """

    partition: str | None = None
    minutes: int = 240
    memory_gb: int = 8
    cluster: str = "slurm"


class SlurmBackend:
    """One job of Slurm, on one core, for each job.

    Args:
        folder: that all nodes share: submitit's scripts, logs, and what it sends to and fro.
        arguments: what is asked of Slurm.

    Raises:
        SettingError: submitit is not installed.
    """

    def __init__(self, folder: Path, arguments: SlurmArguments) -> None:
        self._submitit = extra("submitit", "slurm")
        self._folder, self._arguments = folder, arguments
        self._running: list[tuple[Any, Job]] = []

    def __enter__(self) -> Self:
        """Find Slurm.

        Raises:
            SettingError: there is none on this machine.
        """
        own = self._arguments
        try:
            folder = self._folder.resolve()
            self._executor = self._submitit.AutoExecutor(folder, cluster=own.cluster)
        except (RuntimeError, ValueError) as error:
            raise SettingError(f"--backend: slurm cannot be used here: {error}") from error
        self._executor.update_parameters(
            name="dqmq", timeout_min=own.minutes, mem_gb=own.memory_gb, cpus_per_task=1
        )
        if own.partition is not None:
            self._executor.update_parameters(slurm_partition=own.partition)
        return self

    def submit(self, job: Job, work: Path) -> None:
        """See :class:`~dqmq_env.benchmark.backends.protocol.Backend`."""
        self._running.append((self._executor.submit(perform, job, work), job))

    def wait(self) -> Ended:
        """See :class:`~dqmq_env.benchmark.backends.protocol.Backend`."""
        while True:
            for pair in self._running:
                if pair[0].done():
                    self._running.remove(pair)
                    return self._ended(*pair)
            time.sleep(_POLL_SECONDS)

    def __exit__(self, *error: object) -> None:
        """Cancel what is running."""
        for handle, _ in self._running:
            handle.cancel(check=False)
        self._running.clear()

    def _ended(self, handle: Any, job: Job) -> Ended:
        errors = self._submitit.core.utils
        try:
            ended: Ended = handle.result()
        except errors.FailedJobError as error:
            return Failed(job, str(error))
        except errors.UncompletedJobError as error:
            return Died(job, f"Slurm: {error}")
        return ended
