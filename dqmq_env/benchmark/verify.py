"""Replays results: evaluates every reported assignment again, and compares.

On a table every number must come out exactly. On a live network it must too where processor and
torch are those of the result; on others sums are added up in another order, so that a few images
may change sides: accuracies and rewards may then differ by :data:`TOLERANCE`. Costs, shares and
optima must always come out exactly.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from dqmq_env.benchmark.job import Result, Score
from dqmq_env.benchmark.provenance import machine
from dqmq_env.benchmark.resolve import environment_of
from dqmq_env.benchmark.run_job import (
    best_uniform,
    scores_of,
    training_folder,
    tuned_scores,
)
from dqmq_env.benchmark.store import read_result
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import DQMQError, ResultError
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.search.rule import Rule

TOLERANCE: Final = 0.005

_MEASURED = ("reward", "accuracy", "test", "tuned")


@dataclass(frozen=True)
class Mismatch:
    """Something that a result says and that did not come out again.

    Attributes:
        path: of the result.
        where: agent or uniform bits, and the condition; empty where it is about the file.
        what: the name of the number.
        reported: what the result says.
        found: what came out.
    """

    path: Path
    where: str
    what: str
    reported: str
    found: str


def verify(
    paths: Sequence[Path], work: Path, each: Callable[[], None] = lambda: None
) -> Iterator[Mismatch]:
    """Replay results.

    Args:
        paths: of the files of results.
        work: folder of the states of fine-tuning; accuracies after it are compared where the state
            of the job is there.
        each: called after each result.
    """
    read: list[tuple[Path, Result]] = []
    for path in paths:
        try:
            read.append((path, read_result(path)))
        except ResultError as error:
            yield Mismatch(path, "", "file", "", str(error))
            each()
    # those of one environment in a row, since it is made once
    for path, result in sorted(read, key=lambda own: (own[1].job.task, own[0])):
        try:
            yield from replay(environment_of(result.job), path, result, work)
        except DQMQError as error:
            yield Mismatch(path, "", "replay", "", str(error))
        each()


def replay(env: BitWidthEnv, path: Path, result: Result, folder: Path) -> Iterator[Mismatch]:
    """Replay one result in an environment that is there already.

    Args:
        env: what the result is about.
        path: of its file.
        result: what is compared.
        folder: of the states of fine-tuning; what was trained there is not trained again.

    Raises:
        DQMQError: an assignment cannot be evaluated, or does not keep to the budget.
    """
    problem, task = env.problem, env.core.task
    rule = Rule.from_dict(result.rule)
    conditions = [str(condition) for condition in problem.mixture.conditions]
    for what, named in (("rule", list(result.rule)), ("scores", _named(result.scores))):
        if sorted(named) != sorted(conditions):
            yield Mismatch(path, what, "conditions", ", ".join(named), ", ".join(conditions))
            return
    scores = scores_of(rule, problem, task)
    bits, plain = best_uniform(env)
    uniform = list(plain)
    if result.job.fine_tune is not None:
        if training_folder(result.job, rule, folder).is_dir():
            scores = tuned_scores(result.job, scores, rule, problem, folder)
        if training_folder(result.job, bits, folder).is_dir():
            uniform = tuned_scores(result.job, uniform, bits, problem, folder)
    tolerance = 0.0 if isinstance(problem, TableProblem) or _same_machine(result) else TOLERANCE
    name = result.job.label or result.job.agent
    yield from _compared(path, name, result.scores, scores, tolerance)
    yield from _compared(path, f"{name}: uniform bits", result.uniform, uniform, tolerance)


def _compared(
    path: Path, name: str, reported: list[Score], found: list[Score], tolerance: float
) -> Iterator[Mismatch]:
    """What differs between two lists of scores."""
    if _named(reported) != _named(found):
        yield Mismatch(path, name, "conditions", str(_named(reported)), str(_named(found)))
        return
    for said, own in zip(reported, found, strict=True):
        for what in [field.name for field in fields(Score)]:
            before, now = getattr(said, what), getattr(own, what)
            if what == "tuned" and now is None:
                continue  # its state was not kept
            if before == now or (what in _MEASURED and _near(before, now, tolerance)):
                continue
            yield Mismatch(path, f"{name}, {said.condition}", what, str(before), str(now))


def _near(before: float | None, now: float | None, tolerance: float) -> bool:
    return before is not None and now is not None and abs(before - now) <= tolerance


def _named(scores: list[Score]) -> list[str]:
    return [score.condition for score in scores]


def _same_machine(result: Result) -> bool:
    """Whether what sums depend on is as it was."""
    here = machine()
    return all(result.machine.get(name) == here.get(name) for name in ("processor", "torch"))
