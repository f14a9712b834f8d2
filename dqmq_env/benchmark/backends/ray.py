"""Jobs as tasks of Ray: on this machine, or on the nodes of a cluster."""

import logging
import os
from pathlib import Path
from typing import Any, Self

from dqmq_env.benchmark.backends.protocol import Died, Ended, Failed, extra, perform
from dqmq_env.benchmark.job import Job
from dqmq_env.errors import SettingError


class RayBackend:
    """One task of Ray, on one core, for each job; the package is installed on every node.

    Args:
        address: ``local`` begins Ray on this machine, ``auto`` finds the cluster that the machine
            is part of; or the address of a cluster.
        jobs: number of cores, where Ray is begun.

    Raises:
        SettingError: Ray is not installed.
    """

    def __init__(self, address: str, jobs: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray = extra("ray", "ray")
        self._errors = extra("ray.exceptions", "ray")
        self._address, self._jobs = address, jobs
        self._running: dict[Any, Job] = {}

    def __enter__(self) -> Self:
        """Connect to the cluster, or begin one.

        Raises:
            SettingError: there is no cluster at the address.
        """
        local = self._address == "local"
        own = {"num_cpus": self._jobs, "include_dashboard": False} if local else {}
        try:
            self._ray.init(
                address=self._address, log_to_driver=False, logging_level=logging.ERROR, **own
            )
        except (ConnectionError, ValueError) as error:
            raise SettingError(
                f"--address: got {self._address!r}, no Ray answers there: {error}"
            ) from error
        # further attempts are the runner's, as with every backend: it keeps account of them
        self._task = self._ray.remote(num_cpus=1, max_retries=0)(perform)
        return self

    def submit(self, job: Job, work: Path) -> None:
        """See :class:`~dqmq_env.benchmark.backends.protocol.Backend`."""
        self._running[self._task.remote(job, work)] = job

    def wait(self) -> Ended:
        """See :class:`~dqmq_env.benchmark.backends.protocol.Backend`."""
        (reference,), _ = self._ray.wait(list(self._running), num_returns=1)
        job = self._running.pop(reference)
        try:
            ended: Ended = self._ray.get(reference)
        except self._errors.RayTaskError as error:
            return Failed(job, str(error))
        except self._errors.RayError as error:
            return Died(job, f"Ray: {type(error).__name__}: {error}")
        return ended

    def __exit__(self, *error: object) -> None:
        """Cancel what is running, and leave the cluster."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._ray.shutdown()
