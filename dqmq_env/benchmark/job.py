"""A run of the benchmark as data, and what came of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Self

from dqmq_env.errors import ResultError
from dqmq_env.version import __version__

RESULT_SCHEMA = "dqmq-result/1"


@dataclass(frozen=True)
class Job:
    """One run: which searcher, on which environment, for how many evaluations, by which seed.

    Attributes:
        agent: ``module:Class`` of a :class:`~dqmq_env.search.protocol.Searcher`.
        settings: its fields, where they are not the defaults.
        id: of the environment that gives problem and task.
        env: keyword arguments that the environment is made with, such as ``budget``.
        evaluations: how many the search may spend.
        seed: of everything drawn.
        fine_tune: fields of a :class:`~dqmq_env.training.loop.Schedule` for training at the bits
            found; nothing is trained when left out.
        label: what tables and plots call the agent.
        version: of the package that the job is made for.
    """

    agent: str
    id: str
    evaluations: int
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)
    fine_tune: Mapping[str, Any] | None = None
    label: str = ""
    version: str = __version__

    @cached_property
    def key(self) -> str:
        """A hash of all of it but the label, 24 hexadecimal digits."""
        own = {name: value for name, value in asdict(self).items() if name != "label"}
        text = json.dumps(own, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def task(self) -> str:
        """The environment with its arguments, as tables name it: what runs are compared within."""
        arguments = ", ".join(f"{name}={value}" for name, value in sorted(self.env.items()))
        return f"{self.id} ({arguments})" if arguments else self.id


@dataclass(frozen=True)
class Score:
    """How the rule of a run did under one condition.

    Attributes:
        condition: its text.
        share: how often it occurs, in [0, 1]; the sum over a run's scores is 1.
        reward: what the task gives on ``search``.
        accuracy: top-1 on ``search``, in [0, 1].
        test: top-1 on ``test``, in [0, 1], of the network as the search saw it.
        costs: name to the fraction of that at 8 bits.
        optimum: the reward of the best assignment, where a table knows it.
        tuned: top-1 on ``test`` after fine-tuning, where there was some.
    """

    condition: str
    share: float
    reward: float
    accuracy: float
    test: float
    costs: Mapping[str, float]
    optimum: float | None = None
    tuned: float | None = None


@dataclass(frozen=True)
class Result:
    """What came of a job.

    Attributes:
        job: which.
        rule: condition to layer to its two widths; see :class:`~dqmq_env.search.rule.Rule`.
        scores: one for each condition.
        uniform: the same for uniform bits: of the widths that keep to the budget, the one of the
            highest reward.
        curve: pairs (evaluations, reward): the mean reward, over the mixture, of the best
            assignments tried so far, from the first time that one was tried under each condition.
        spent: evaluations, images_evaluated and images_trained of the search.
        seconds: of the search, by the wall clock.
        images: number of ``search`` and ``test`` images.
        source: digest of the source code that ran.
        machine: processor and versions of packages.
    """

    job: Job
    rule: Mapping[str, Mapping[str, list[int]]]
    scores: list[Score]
    uniform: list[Score]
    curve: list[tuple[int, float]]
    spent: Mapping[str, int]
    seconds: float
    images: Mapping[str, int]
    source: str
    machine: Mapping[str, str]

    @property
    def reward(self) -> float:
        """Mean over the mixture."""
        return sum(score.share * score.reward for score in self.scores)

    @property
    def optimum(self) -> float | None:
        """The mean of the best assignments' rewards, where a table knows it."""
        known = [score.optimum for score in self.scores if score.optimum is not None]
        if len(known) < len(self.scores):
            return None
        return sum(s.share * best for s, best in zip(self.scores, known, strict=True))

    def to_json(self) -> str:
        """JSON text with a schema version and a checksum of all the rest."""
        data = {"schema": RESULT_SCHEMA, **asdict(self)}
        return json.dumps({**data, "sha256": _checksum(data)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises:
            ResultError: the text is not such JSON, or not all of it is what was written.
        """
        try:
            data = json.loads(text)
            schema = data.pop("schema")
            if schema != RESULT_SCHEMA:
                raise ResultError(
                    f"result: schema {schema!r}, this version reads {RESULT_SCHEMA!r}"
                )
            checksum = data.pop("sha256")
            if checksum != _checksum({"schema": schema, **data}):
                raise ValueError("its checksum is not that of its content")
            if set(data) != {own.name for own in fields(cls)}:
                raise ValueError(f"fields {sorted(data)}")
            made = {
                "job": Job(**data["job"]),
                "scores": [Score(**row) for row in data["scores"]],
                "uniform": [Score(**row) for row in data["uniform"]],
                "curve": [(int(count), float(reward)) for count, reward in data["curve"]],
            }
            return cls(**(data | made))
        except ResultError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ResultError(f"result: not {RESULT_SCHEMA} JSON: {error!r}") from error


def _checksum(data: Mapping[str, Any]) -> str:
    """SHA-256 of the values, however they are laid out as text."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
