"""Suites: which agents on which tasks, by which seeds; small TOML files.

A suite file has

- ``name`` and ``evaluations``: what it is called, how many evaluations each search may spend;
- ``seeds``: those that are reported, as a list or as ``{ first = 0, count = 10 }``;
- ``tuning`` (may be left out): further seeds, in the same form, that settings are chosen by; none
  of them may be reported;
- ``[[tasks]]``: ``id`` of an environment, and ``env``, its arguments;
- ``[[agents]]``: ``agent`` is ``module:Class``, ``settings`` are its fields, ``label`` its name in
  tables;
- ``[fine_tune]`` (may be left out): fields of a :class:`~dqmq_env.training.loop.Schedule`.
"""

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, Self

from dqmq_env.benchmark.job import Job
from dqmq_env.benchmark.plain import make
from dqmq_env.errors import ResultError

SHIPPED: Final = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class SuiteTask:
    """An environment.

    Attributes:
        id: as Gymnasium knows it.
        env: keyword arguments that it is made with.
    """

    id: str
    env: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SuiteAgent:
    """A searcher.

    Attributes:
        agent: ``module:Class``.
        settings: its fields, where they are not the defaults.
        label: what tables and plots call it.
    """

    agent: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True)
class Span:
    """Seeds that follow each other.

    Attributes:
        first: the least.
        count: how many.
    """

    first: int
    count: int


@dataclass(frozen=True)
class Suite:
    """Every agent on every task by every seed; see the module for the form of its file.

    Attributes:
        name: of the suite.
        evaluations: how many each search may spend.
        seeds: those that are reported.
        tasks: environments.
        agents: searchers.
        tuning: seeds that settings are chosen by.
        fine_tune: how networks are trained at the bits found; they are not when left out.

    Raises:
        ResultError: there are no tasks, agents or seeds, something comes twice, a seed is below 0,
            or one is both reported and for tuning.
    """

    name: str
    evaluations: int
    seeds: tuple[int, ...]
    tasks: tuple[SuiteTask, ...]
    agents: tuple[SuiteAgent, ...]
    tuning: tuple[int, ...] = ()
    fine_tune: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("seeds", "tasks", "agents"):
            if not getattr(self, name):
                raise ResultError(f"{name}: got none, must be one or more")
        for name in ("seeds", "tuning"):
            _check_seeds(name, getattr(self, name))
        common = sorted(set(self.seeds) & set(self.tuning))
        if common:
            raise ResultError(
                f"tuning: got the seeds {common}, which are reported too; settings must be chosen "
                "by seeds of their own"
            )
        _check_once("label", [own.label for own in self.agents if own.label])
        _check_once("agents and tasks", [_words(job) for job in self.jobs()])

    def jobs(self) -> list[Job]:
        """Every job, task by task, and for each task seed by seed."""
        return [
            Job(
                agent=agent.agent,
                id=task.id,
                evaluations=self.evaluations,
                seed=seed,
                settings=agent.settings,
                env=task.env,
                fine_tune=self.fine_tune,
                label=agent.label,
            )
            for task, seed, agent in product(self.tasks, self.seeds, self.agents)
        ]

    def for_tuning(self) -> Self:
        """The suite over the seeds that settings are chosen by.

        Raises:
            ResultError: it has none.
        """
        if not self.tuning:
            raise ResultError(f"tuning: the suite {self.name!r} has no seeds for tuning")
        return replace(self, name=f"{self.name}-tuning", seeds=self.tuning, tuning=())

    def to_dict(self) -> dict[str, Any]:
        """The form that JSON can hold."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], what: str) -> Self:
        """The suite that a TOML file or :meth:`to_dict` gave.

        Args:
            data: fields; see the module.
            what: where they are from, for messages.

        Raises:
            ResultError: a field is unknown, missing, of the wrong type or not allowed.
        """
        try:
            json.dumps(data)
            spread = {name: _spread(name, own) for name, own in data.items()}
            return make(cls, spread, "suite")
        except (ResultError, TypeError) as error:
            raise ResultError(f"{what}: {error}") from error


def suite_names() -> list[str]:
    """Names of the shipped suites."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load_suite(name: str | Path) -> Suite:
    """Read a suite.

    Args:
        name: of a shipped suite, or path of a TOML file.

    Raises:
        ResultError: there is no such suite, or its file is wrong; the message says how.
    """
    path = SHIPPED / f"{name}.toml" if str(name) in suite_names() else Path(name)
    if not path.is_file():
        got = repr(str(name)) if str(name) else "none"
        raise ResultError(
            f"suite: got {got}, allowed are {', '.join(suite_names())}, or a TOML file"
        )
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"suite: {path} is no TOML file: {error}") from error
    return Suite.from_dict(data, str(path))


def _spread(name: str, value: Any) -> Any:
    """A field of a suite file, with a span of seeds as the seeds that it stands for."""
    if name not in ("seeds", "tuning") or not isinstance(value, Mapping):
        return value
    span = make(Span, value, name)
    return list(range(span.first, span.first + span.count))


def _words(job: Job) -> str:
    return f"{job.agent} {dict(job.settings)} on {job.task} by seed {job.seed}"


def _check_seeds(name: str, seeds: tuple[int, ...]) -> None:
    if min(seeds, default=0) < 0:
        raise ResultError(f"{name}: got {min(seeds)}, allowed are 0 and more")
    _check_once(name, seeds)


def _check_once(what: str, values: Iterable[Any]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise ResultError(f"{what}: got {value} more than once")
