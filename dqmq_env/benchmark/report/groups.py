"""Runs whose scores may be pooled, and what is concluded about each agent from them."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeVar

import numpy as np

from dqmq_env.benchmark.report.runs import Run, over_mixture
from dqmq_env.benchmark.statistics import (
    RESAMPLES,
    Interval,
    Numbers,
    holm,
    improvement,
    interval,
    iqm,
    mean,
    median_reaching,
    optimality_gap,
    paired_differences,
    sign_test,
)

GAPS: Final = (0.05, 0.01)
"""An agent is near the optimum once it has all but such a share of its reward."""

_T = TypeVar("_T")

_LEAST_ROOM = 1e-9
_ERROR = 0.05


@dataclass(frozen=True)
class Scale:
    """What a score is.

    Attributes:
        name: of the score.
        title: of the tasks that are scored so.
        meaning: what the ends of the scale are, in plain words.
        slug: for the names of files and of places in the page.
        digits: after the point.
    """

    name: str
    title: str
    meaning: str
    slug: str
    digits: int


NORMALISED: Final = Scale(
    "normalised score",
    "Tasks with a known optimum",
    "0 is the reward of the best uniform bits that keep to the budget; 1 is the reward of the "
    "best assignments, which a table knows",
    "known-optimum",
    3,
)
POINTS: Final = Scale(
    "points over uniform bits",
    "Live tasks",
    "percentage points of test accuracy above the best uniform bits that keep to the budget; "
    "not normalised, as no optimum is known",
    "live",
    2,
)


@dataclass(frozen=True)
class Reach:
    """How soon the runs of an agent are near the optimum.

    Attributes:
        share: of the runs that ever are.
        median: evaluations until they are, over all runs; ``None`` where half of them never are.
    """

    share: float
    median: float | None


@dataclass(frozen=True)
class Comparison:
    """An agent against the reference.

    Attributes:
        improvement: probability that a run is better than one of the reference.
        gain: mean difference of scores by equal seeds; ``None`` without common seeds.
        chance: of a mean difference as large, were both alike; ``None`` likewise.
        adjusted: ``chance``, adjusted for the number of agents compared.
    """

    improvement: Interval
    gain: Interval | None
    chance: float | None
    adjusted: float | None

    @property
    def verdict(self) -> str:
        """In words."""
        if self.gain is None or self.adjusted is None:
            return "no common seeds"
        if self.adjusted >= _ERROR:
            return "unclear"
        if self.gain.value * (self.improvement.value - 0.5) <= 0:
            return "mixed"  # what is gained on some tasks is lost on others
        return "better" if self.gain.value > 0 else "worse"


@dataclass(frozen=True)
class Verdict:
    """What is concluded about an agent.

    Attributes:
        agent: its name.
        runs: their number.
        tasks: number of tasks that it ran on.
        score: interquartile mean over all runs and tasks.
        gap: optimality gap: mean distance of the scores below 1; ``None`` on live tasks.
        comparison: with the reference; ``None`` for the reference itself, or where the agent or
            the reference lacks a task.
        reach: gap to how soon it is that near to the optimum.
    """

    agent: str
    runs: int
    tasks: int
    score: Interval
    gap: Interval | None
    comparison: Comparison | None
    reach: Mapping[float, Reach]


@dataclass(frozen=True, eq=False)
class Group:
    """Runs on tasks that are scored alike.

    Attributes:
        scale: what a score is.
        runs: all of them, by task, agent and seed.
    """

    scale: Scale
    runs: tuple[Run, ...]

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Their names, ascending."""
        return tuple(sorted({run.task for run in self.runs}))

    @cached_property
    def agents(self) -> tuple[str, ...]:
        """Their names, ascending."""
        return tuple(sorted({run.agent for run in self.runs}))

    @cached_property
    def tuned(self) -> frozenset[str]:
        """The tasks all of whose runs were fine-tuned, as were uniform bits."""
        whole = {
            task: all(run.tuned and run.tuned_uniform for run in self.runs if run.task == task)
            for task in self.tasks
        }
        return frozenset(task for task, own in whole.items() if own)

    def of(self, agent: str) -> dict[str, list[Run]]:
        """The runs of an agent by the tasks that it ran on."""
        found: defaultdict[str, list[Run]] = defaultdict(list)
        for run in self.runs:
            if run.agent == agent:
                found[run.task].append(run)
        return dict(found)

    def score(self, run: Run) -> float:
        """What the scale says of a run."""
        if self.scale is NORMALISED:
            least, most = run.uniform_reward, run.known_optimum
            return (run.result.reward - least) / (most - least)
        split = "tuned" if run.task in self.tuned else "test"
        own, uniform = (
            over_mixture(rows, lambda score: float(getattr(score, split)))
            for rows in (run.result.scores, run.result.uniform)
        )
        return 100 * (own - uniform)

    def scores(self, agent: str) -> dict[str, Numbers]:
        """The scores of an agent by task."""
        return {
            task: np.array([self.score(run) for run in runs])
            for task, runs in self.of(agent).items()
        }

    def by_seed(self, agent: str) -> dict[str, dict[int, float]]:
        """The same by seed; the mean where several runs have the same one."""
        found: dict[str, dict[int, float]] = {}
        for task, runs in self.of(agent).items():
            pooled: defaultdict[int, list[float]] = defaultdict(list)
            for run in runs:
                pooled[run.seed].append(self.score(run))
            found[task] = {seed: math.fsum(own) / len(own) for seed, own in pooled.items()}
        return found


def groups_of(runs: Sequence[Run]) -> tuple[Group, ...]:
    """Runs by how their tasks are scored: those whose optimum is known and above uniform bits.

    Args:
        runs: by task, agent and seed.
    """
    live = {run.task for run in runs if not _has_room(run)}
    parts = (
        Group(NORMALISED, tuple(run for run in runs if run.task not in live)),
        Group(POINTS, tuple(run for run in runs if run.task in live)),
    )
    return tuple(group for group in parts if group.runs)


def _has_room(run: Run) -> bool:
    best = run.result.optimum
    return best is not None and best - run.uniform_reward > _LEAST_ROOM


def verdicts(
    group: Group, reference: str | None, resamples: int = RESAMPLES
) -> tuple[Verdict, ...]:
    """What is concluded about each agent of a group, the best first.

    Args:
        group: the runs.
        reference: name of the agent that others are compared with, if any.
        resamples: of each interval.
    """
    comparisons = _comparisons(group, reference, resamples)
    found = [_verdict(group, agent, comparisons.get(agent), resamples) for agent in group.agents]
    return tuple(sorted(found, key=lambda own: (-own.tasks, -own.score.value, own.agent)))


def _verdict(group: Group, agent: str, comparison: Comparison | None, resamples: int) -> Verdict:
    scores = list(group.scores(agent).values())
    runs = [run for own in group.of(agent).values() for run in own]
    return Verdict(
        agent,
        len(runs),
        len(scores),
        interval(scores, iqm, resamples),
        interval(scores, optimality_gap, resamples) if group.scale is NORMALISED else None,
        comparison,
        {gap: _reach(runs, gap) for gap in GAPS},
    )


def _reach(runs: Sequence[Run], gap: float) -> Reach:
    counts = [run.evaluations_within(gap) for run in runs]
    return Reach(sum(count is not None for count in counts) / len(counts), median_reaching(counts))


def _comparisons(group: Group, reference: str | None, resamples: int) -> dict[str, Comparison]:
    """Agent to its comparison, of those that ran on all tasks of the group."""
    if reference is None or len(group.of(reference)) < len(group.tasks):
        return {}
    others = [
        agent
        for agent in group.agents
        if agent != reference and len(group.of(agent)) == len(group.tasks)
    ]
    pairs = {agent: _pairs(group, agent, reference) for agent in others}
    chances = {agent: sign_test(own) for agent, own in pairs.items() if own}
    adjusted = holm(chances)
    base = _ordered(group, group.scores(reference))
    return {
        agent: Comparison(
            improvement(_ordered(group, group.scores(agent)), base, resamples),
            interval(own, mean, resamples) if own else None,
            chances.get(agent),
            adjusted.get(agent),
        )
        for agent, own in pairs.items()
    }


def _pairs(group: Group, agent: str, reference: str) -> list[Numbers]:
    own, other = (group.by_seed(name) for name in (agent, reference))
    return paired_differences(_ordered(group, own), _ordered(group, other))


def _ordered(group: Group, by_task: Mapping[str, _T]) -> list[_T]:
    return [by_task[task] for task in group.tasks]
