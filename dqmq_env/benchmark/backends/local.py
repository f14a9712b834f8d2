"""Processes of this machine, each with a pipe of its own, so that it is known whose job died."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

from dqmq_env.benchmark.backends.protocol import Died, Done, Ended, Failed, perform
from dqmq_env.benchmark.job import Job


@dataclass(eq=False)
class _Worker:
    """A process, this side of its pipe, and the job that it is at."""

    process: BaseProcess
    pipe: Connection
    job: Job | None = None


class LocalBackend:
    """Worker processes, started when they are needed and again when they have died.

    A worker keeps the environment of its last job, so that jobs of one task make it once for each
    worker.
    """

    def __init__(self) -> None:
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        """See :class:`~dqmq_env.benchmark.backends.protocol.Backend`."""
        return self

    def submit(self, job: Job, work: Path) -> None:
        """See :class:`~dqmq_env.benchmark.backends.protocol.Backend`."""
        worker = next((own for own in self._workers if own.job is None), None)
        if worker is None:
            worker = _start()
            self._workers.append(worker)
        worker.job = job
        with contextlib.suppress(OSError):  # it died idle: wait() finds it dead
            worker.pipe.send((job, work))

    def wait(self) -> Ended:
        """See :class:`~dqmq_env.benchmark.backends.protocol.Backend`."""
        busy = [worker for worker in self._workers if worker.job is not None]
        signs: dict[Any, _Worker] = {}
        for worker in busy:
            signs[worker.pipe] = signs[worker.process.sentinel] = worker
        worker = signs[wait(list(signs))[0]]
        assert worker.job is not None
        try:
            if not worker.pipe.poll():
                raise EOFError
            ended: Done | Failed = worker.pipe.recv()
        except (EOFError, OSError):
            return self._bury(worker, worker.job)
        worker.job = None
        return ended

    def __exit__(self, *error: object) -> None:
        """See :class:`~dqmq_env.benchmark.backends.protocol.Backend`."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()

    def _bury(self, worker: _Worker, job: Job) -> Died:
        self._workers.remove(worker)
        worker.process.kill()  # it may have closed its pipe and live on
        worker.process.join()
        worker.pipe.close()
        code = worker.process.exitcode
        by = f"signal {signal.Signals(-code).name}" if code and code < 0 else f"exit status {code}"
        return Died(job, f"the worker process ended by {by} before its job did")


def _start() -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,))
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _serve(pipe: Connection) -> None:
    """Do one job after another; what a worker process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    _end_with_parent(lambda: os._exit(1))
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(perform(*pipe.recv()))


def _end_with_parent(end: Callable[[], None]) -> None:
    """Have a thread call ``end`` when the parent process is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        end()

    threading.Thread(target=watch, daemon=True).start()
