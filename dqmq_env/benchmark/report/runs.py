"""Results read from run folders, and what a report derives from each of them alone."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dqmq_env.benchmark.job import RESULT_SCHEMA, Job, Result, Score
from dqmq_env.benchmark.statistics import first_reaching
from dqmq_env.benchmark.store import read_result, result_paths
from dqmq_env.benchmark.suite import Suite
from dqmq_env.errors import ConditionError, ResultError
from dqmq_env.quality.condition import Condition


@dataclass(frozen=True, eq=False)
class Run:
    """A result, and the names of its task and its agent, unlike for different ones.

    Attributes:
        result: what came of the job.
        task: what runs are compared within, as tables and plots name it.
        agent: as tables and plots name it.
    """

    result: Result
    task: str
    agent: str

    @property
    def seed(self) -> int:
        """Of everything drawn."""
        return self.result.job.seed

    @property
    def uniform_reward(self) -> float:
        """Of uniform bits, in the mean over the mixture."""
        return over_mixture(self.result.uniform, lambda score: score.reward)

    @property
    def tuned(self) -> bool:
        """Whether accuracies after fine-tuning are known."""
        return all(score.tuned is not None for score in self.result.scores)

    @property
    def tuned_uniform(self) -> bool:
        """Whether they are known of uniform bits."""
        return all(score.tuned is not None for score in self.result.uniform)

    @cached_property
    def curve(self) -> list[tuple[int, float]]:
        """The result's curve; where nothing was evaluated, the one point of the rule itself."""
        return self.result.curve or [(self.result.spent["evaluations"], self.result.reward)]

    @property
    def share(self) -> float | None:
        """The reward as a share of the optimum's, where that is known and above 0."""
        best = self.result.optimum
        return None if best is None or best <= 0 else self.result.reward / best

    @property
    def known_optimum(self) -> float:
        """The optimum's reward.

        Raises:
            ResultError: it is not known.
        """
        best = self.result.optimum
        if best is None:
            raise ResultError(f"runs: no optimum of {self.task!r} is known")
        return best

    def evaluations_within(self, gap: float) -> int | None:
        """Evaluations until the best tried had ``1 - gap`` of the optimum's reward.

        ``None`` if it never had, if the rule that the run ends with has not, or where no optimum
        above 0 is known.
        """
        if self.share is None or self.share < 1 - gap:
            return None
        return first_reaching(self.curve, (1 - gap) * self.known_optimum)


@dataclass(frozen=True, eq=False)
class Runs:
    """All that was read.

    Attributes:
        runs: by task, agent and seed.
        damaged: one line for each file that was left out.
        missing: one sentence for each folder whose suite is not finished.
        folders: names of the run folders.
    """

    runs: tuple[Run, ...]
    damaged: tuple[str, ...]
    missing: tuple[str, ...]
    folders: tuple[str, ...]


def over_mixture(scores: Iterable[Score], value: Callable[[Score], float]) -> float:
    """The mean of a value of each condition, by how often the conditions occur."""
    return math.fsum(score.share * value(score) for score in scores)


def read_runs(folders: Sequence[Path]) -> Runs:
    """Read the results of run folders; of several of the same job, the first.

    Args:
        folders: each with ``results/*.json``.

    Raises:
        ResultError: a folder is missing or holds no result that can be read, or a result has
            another schema.
    """
    found: dict[str, Result] = {}
    damaged: list[str] = []
    missing: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise ResultError(f"runs: there is no folder {folder}")
        before = len(damaged)
        results = _read_folder(folder, damaged)
        if not results:
            raise ResultError(f"runs: {folder} holds no result that can be read: {damaged[before]}")
        for result in results:
            found.setdefault(result.job.key, result)
        missing += _missing(folder, {result.job.key for result in results})
    jobs = [result.job for result in found.values()]
    tasks, agents = task_names(jobs), agent_names(jobs)
    runs = sorted(
        (Run(result, tasks[result.job.task], agents[key]) for key, result in found.items()),
        key=lambda run: (run.task, run.agent, run.seed, run.result.job.key),
    )
    _check_tasks(runs)
    titles = tuple(folder.resolve().name for folder in folders)
    return Runs(tuple(runs), tuple(damaged), tuple(missing), titles)


def task_names(jobs: Iterable[Job]) -> dict[str, str]:
    """Each task to a short name: its id, and the arguments that tasks of that id differ in."""
    kinds: defaultdict[str, dict[str, Job]] = defaultdict(dict)
    for job in jobs:
        kinds[job.id][job.task] = job
    return {
        task: replace(job, env={name: job.env[name] for name in job.env if name in differing}).task
        for own in kinds.values()
        for differing in [_differing([job.env for job in own.values()])]
        for task, job in own.items()
    }


def _differing(environments: Sequence[Mapping[str, Any]]) -> set[str]:
    """The arguments whose values are not the same in all."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    for environment in environments:
        for name, value in environment.items():
            values[name].append(json.dumps(value, sort_keys=True))
    return {
        name for name, own in values.items() if len(set(own)) > 1 or len(own) < len(environments)
    }


def agent_names(jobs: Sequence[Job]) -> dict[str, str]:
    """The key of each job to the name of its agent.

    The label, or else the name of the class; with the settings where several agents share it on
    one task.
    """
    kinds: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for job in jobs:
        kinds[job.task, _short_name(job)].add(_kind(job))
    shared = {name for (_, name), found in kinds.items() if len(found) > 1}
    return {
        job.key: _long_name(job) if _short_name(job) in shared else _short_name(job) for job in jobs
    }


def _short_name(job: Job) -> str:
    return job.label or job.agent.rpartition(":")[2]


def _long_name(job: Job) -> str:
    """Says what sets agents of the same label apart."""
    parts = [f"{name}={value}" for name, value in sorted(job.settings.items())]
    parts += [f"{name}={value}" for name, value in sorted((job.fine_tune or {}).items())]
    if job.label:
        parts.insert(0, job.agent)
    return f"{_short_name(job)} ({', '.join(parts) or 'as it is'})"


def _kind(job: Job) -> str:
    return json.dumps([job.agent, job.settings, job.fine_tune], sort_keys=True)


def _read_folder(folder: Path, damaged: list[str]) -> list[Result]:
    """The results of one folder; a line for each that cannot be read joins ``damaged``."""
    found = []
    for path in result_paths(folder):
        _check_schema(path)
        try:
            result = read_result(path)
            _check_result(result)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = " ".join(str(error).removeprefix(f"{path}: ").split())
            damaged.append(f"{folder.resolve().name}/results/{path.name}: {reason}")
        else:
            found.append(result)
    return found


def _check_schema(path: Path) -> None:
    """Refuse what another version wrote: that is no damage, so it is not passed over."""
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))["schema"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return
    if isinstance(schema, str) and schema != RESULT_SCHEMA:
        raise ResultError(
            f"runs: {path} has schema {schema!r}, this version reads {RESULT_SCHEMA!r}; report on "
            "folders of one schema"
        )


def _missing(folder: Path, keys: Set[str]) -> list[str]:
    """A sentence about the jobs of the folder's suite that have no result, if there are any."""
    try:
        begun = json.loads((folder / "suite.json").read_text(encoding="utf-8"))
        wanted = {job.key for job in Suite.from_dict(begun["suite"], "suite").jobs()}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    left = wanted - keys
    if not left:
        return []
    failed = sum((folder / "failures" / f"{key}.json").is_file() for key in left)
    return [
        f"{len(left)} of {len(wanted)} jobs of {folder.resolve().name} have no result, "
        f"{failed} of them failed: what failed may not be like what did not."
    ]


def _check_result(result: Result) -> None:
    """Refuse what is JSON of the right fields and yet no result."""
    job = result.job
    _check_numbers("seed and evaluations", [job.seed, job.evaluations])
    if not all(isinstance(text, str) for text in (job.agent, job.id, job.label, job.version)):
        raise TypeError("job: agent, id, label and version must be text")
    conditions = [score.condition for score in result.scores]
    if not conditions or len(set(conditions)) < len(conditions):
        raise ValueError(f"scores: conditions {conditions}, must be one or more, each once")
    if [score.condition for score in result.uniform] != conditions:
        raise ValueError("uniform: must have the conditions of scores")
    for condition in conditions:
        _check_condition(condition)
        widths = list(result.rule[condition].values())
        if not widths or any(len(pair) != 2 for pair in widths):
            raise ValueError(f"rule: must give layers two widths each under {condition!r}")
        _check_numbers("rule", [width for pair in widths for width in pair])
    for rows in (result.scores, result.uniform):
        for score in rows:
            _check_score(score)
        total = math.fsum(score.share for score in rows)
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"share: the sum is {total}, must be 1")
    counts = [count for count, _ in result.curve]
    if counts != sorted(counts) or min(counts, default=0) < 0:
        raise ValueError("curve: evaluations must ascend from 0 or above")
    _check_numbers("curve", [reward for _, reward in result.curve])
    spent = [result.spent[name] for name in ("evaluations", "images_evaluated", "images_trained")]
    _check_numbers("spent and seconds", [*spent, result.seconds])


def _check_condition(text: str) -> None:
    try:
        Condition.parse(text)
    except ConditionError as error:
        raise ValueError(str(error)) from error


def _check_score(score: Score) -> None:
    known = [own for own in (score.optimum, score.tuned) if own is not None]
    numbers = [score.share, score.reward, score.accuracy, score.test, *known]
    _check_numbers(f"scores under {score.condition!r}", [*numbers, *score.costs.values()])
    if not score.costs or min(score.costs.values()) <= 0:
        raise ValueError(f"costs: must be one or more, above 0, under {score.condition!r}")


def _check_numbers(name: str, values: Sequence[Any]) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name}: got {value!r}, must be a number")
        if not math.isfinite(value):
            raise ValueError(f"{name}: got {value}, must be finite")


def _check_tasks(runs: Sequence[Run]) -> None:
    """Refuse runs that cannot be compared though their tasks have the same name."""
    forms: defaultdict[str, Counter[tuple[tuple[str, ...], ...]]] = defaultdict(Counter)
    for run in runs:
        rule = run.result.rule
        conditions = tuple(score.condition for score in run.result.scores)
        layers = {tuple(rule[condition]) for condition in conditions}
        forms[run.task].update([(conditions, *sorted(layers))])
    for task, found in forms.items():
        if len(found) > 1:
            raise ResultError(
                f"runs: those of {task!r} have different conditions or layers, report on them "
                "separately"
            )
