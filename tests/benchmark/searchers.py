"""Searchers for tests: quick, and able to go wrong when they are told to."""

import os
import signal
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from dqmq_env.randomness import numpy_generator
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.proposals import Proposals, run_proposals
from dqmq_env.search.rule import RuleAgent
from dqmq_env.search.space import Space
from dqmq_env.search.target import targets_of
from dqmq_env.task.task import Task


@dataclass(frozen=True)
class Tiny:
    """Tries a few random assignments.

    Attributes:
        count: how many under each condition.
        scope: see `targets_of`.
        widths: not used; a setting that is a tuple.
        share: not used; a setting that may be left out.
        log: folder that gets a file for each search.
        seconds: to sleep first.
    """

    count: int = 3
    scope: str = "condition"
    widths: tuple[int, ...] = ()
    share: float | None = None
    log: str = ""
    seconds: float = 0.0

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> RuleAgent:
        if self.log:
            (Path(self.log) / f"{seed}-{uuid.uuid4().hex}").touch()
        time.sleep(self.seconds)
        space = Space(problem, task)
        generator = numpy_generator(seed, "tiny")

        def propose() -> Proposals:
            for _ in range(self.count):
                yield space.assignment(space.random(generator))
            return None

        targets = targets_of(self.scope, problem, task)
        return RuleAgent(run_proposals([(own, propose()) for own in targets]), problem, task)


@dataclass(frozen=True)
class Fatal:
    """Kills its own process as often as it is told, then does what `Tiny` does.

    Attributes:
        folder: gets a file for each death.
        deaths: how many.
        seconds: to sleep first.
    """

    folder: str
    deaths: int = 1
    seconds: float = 0.0

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> RuleAgent:
        time.sleep(self.seconds)
        folder = Path(self.folder)
        died = len(list(folder.glob(f"death-{seed}-*")))
        if died < self.deaths:
            (folder / f"death-{seed}-{died}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Tiny().search(problem, task, evaluations, seed)


@dataclass(frozen=True)
class Wrong:
    """Raises an error until a file exists.

    Attributes:
        cured: path of the file.
    """

    cured: str

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> RuleAgent:
        if not Path(self.cured).exists():
            raise ZeroDivisionError("on purpose")
        return Tiny().search(problem, task, evaluations, seed)


@dataclass(frozen=True)
class Nosy:
    """Looks at what it must not see."""

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> RuleAgent:
        space = Space(problem, task)
        condition = problem.mixture.conditions[0]
        problem.evaluate(space.assignment(space.narrowest()), condition, "test")
        raise AssertionError("it was let")


@dataclass(frozen=True)
class Probing:
    """Tries the widest bits, whatever the budget, and random ones after that."""

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> RuleAgent:
        space = Space(problem, task)
        widest = space.assignment(space.widest())
        for condition in problem.mixture.conditions:
            problem.evaluate(widest, condition)
        return Tiny(1).search(problem, task, evaluations, seed)


class Searchless:
    """Has no method `search`."""
