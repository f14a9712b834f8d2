"""Has the jobs that are missing done, and keeps what came of each."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dqmq_env.benchmark.backends.protocol import Backend, Died, Done, Ended
from dqmq_env.benchmark.job import Job
from dqmq_env.benchmark.store import Failure, Store


@dataclass
class Tally:
    """What came of a call.

    Attributes:
        done: jobs that ended with a result.
        failed: those that did not.
        interrupted: whether it was, before all had ended.
    """

    done: list[Job] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    interrupted: bool = False


def run_jobs(
    store: Store,
    jobs: Sequence[Job],
    backend: Backend,
    width: int,
    retries: int,
    tally: Tally,
    ended: Callable[[], None] = lambda: None,
) -> None:
    """Run jobs, at most ``width`` at a time, and keep the result or the failure of each.

    A job that raises an error would do so again, and has failed. One whose worker died is begun
    again, up to ``retries`` times; then it has failed too.

    Args:
        store: where results and failures go.
        jobs: which; those that have a result already are done again.
        backend: where they run; it has been entered.
        width: how many at a time.
        retries: how often one is begun again.
        tally: gets what came of each.
        ended: called after each.
    """
    waiting, deaths, running = deque(jobs), Counter[str](), 0
    while waiting or running:
        while waiting and running < width:
            job = waiting.popleft()
            backend.submit(job, store.work)
            running += 1
        end = backend.wait()
        running -= 1
        if isinstance(end, Died) and deaths[end.job.key] < retries:
            deaths[end.job.key] += 1
            store.fail(end.job, end.reason)
            waiting.append(end.job)
            continue
        _keep(store, end, tally)
        ended()


def _keep(store: Store, end: Ended, tally: Tally) -> None:
    if isinstance(end, Done):
        store.save(end.job, end.text)
        tally.done.append(end.job)
    else:
        why = end.reason if isinstance(end, Died) else end.traceback
        tally.failed.append(store.fail(end.job, why))
