"""Everything that a report shows, worked out once for the page and for Markdown."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dqmq_env.benchmark.picture import looks
from dqmq_env.benchmark.report.groups import Group, Verdict, groups_of, verdicts
from dqmq_env.benchmark.report.provenance import warnings
from dqmq_env.benchmark.report.runs import Run, Runs
from dqmq_env.benchmark.report.summary import (
    LearningCurve,
    Means,
    by_task,
    condition_accuracies,
    learning_curves,
    means,
    profiles,
    thresholds,
    uniform_means,
)
from dqmq_env.benchmark.statistics import PROFILE_RESAMPLES, RESAMPLES, Band, Interval, Numbers
from dqmq_env.errors import SettingError

TITLE: Final = "Benchmark report"
SECTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "verdicts": (
        "Verdicts",
        "One row for each agent, the best first; two agents whose intervals overlap widely are not "
        "told apart by these runs.",
    ),
    "curves": (
        "Learning curves",
        "The further left and the higher a line, the fewer evaluations an agent needs: the line is "
        "the best that it has tried so far, the interquartile mean over its runs, the band the 95% "
        "interval of that mean; it begins once every run has tried something under each condition.",
    ),
    "profiles": (
        "Performance profiles",
        "Read off at a score how many of an agent's runs are above it; a line that is above "
        "another everywhere is the better agent, lines that cross trade typical runs for bad ones.",
    ),
    "accuracy": (
        "Accuracy against cost",
        "Up and to the left is better: each mark is the bits of one run, the grey steps join those "
        "that no other run beats in both, the dashed line is the accuracy of uniform bits, with a "
        "star at their cost where that is not far off.",
    ),
    "bits": (
        "Bits by layer and condition",
        "Dark cells get many bits; columns that differ show an agent that follows the quality of "
        "its input.",
    ),
    "tasks": (
        "Tasks in numbers",
        "What each agent came to on each task, beside uniform bits; rewards are measured on search "
        "images, test images were touched once, by the final measurement.",
    ),
    "costs": (
        "What the searches cost",
        "One evaluation is one batch of search images at some bits under one condition.",
    ),
    "made": (
        "How it was made",
        "The code, the machines and the jobs; each result holds the bits of every layer, so that "
        "every number can be measured again.",
    ),
}
"""Place in the page to the title of a section and how to read it."""


@dataclass(frozen=True)
class Effort:
    """How much is drawn for the intervals.

    Attributes:
        aggregates: resamples of aggregates and comparisons.
        profiles: of profiles, curves and the tables of single tasks.
    """

    aggregates: int = RESAMPLES
    profiles: int = PROFILE_RESAMPLES

    def __post_init__(self) -> None:
        for name in ("aggregates", "profiles"):
            if getattr(self, name) < 100:
                raise SettingError(f"{name}: got {getattr(self, name)} resamples, allowed from 100")


@dataclass(frozen=True, eq=False)
class GroupContent:
    """What is shown of tasks that are scored alike.

    Attributes:
        group: the runs.
        verdicts: of each agent, the best first.
        places: scores that the profiles are worked out at.
        profiles: of each agent that ran on all tasks.
    """

    group: Group
    verdicts: tuple[Verdict, ...]
    places: Numbers
    profiles: Mapping[str, Band]


@dataclass(frozen=True, eq=False)
class TaskContent:
    """What is shown of one task.

    Attributes:
        task: its name.
        runs: on it.
        curves: of each agent.
        uniform: what uniform bits have.
        means: of each agent, the highest reward first.
        split: whose accuracies ``accuracies`` are.
        accuracies: of each agent under each condition, the best first, uniform bits last.
    """

    task: str
    runs: Sequence[Run]
    curves: Mapping[str, LearningCurve]
    uniform: Means
    means: Sequence[Means]
    split: str
    accuracies: Mapping[str, Mapping[str, Interval]]

    @property
    def slug(self) -> str:
        """For the names of files and of places in the page."""
        return re.sub(r"[^a-z0-9]+", "-", self.task.lower()).strip("-")


@dataclass(frozen=True, eq=False)
class Content:
    """What is shown.

    Attributes:
        read: the runs.
        reference: the agent that others are compared with.
        looks: agent to its colour and marker, the same everywhere.
        groups: tasks by how they are scored.
        tasks: each of them.
        warnings: what stands in the way of firm conclusions.
    """

    read: Runs
    reference: str | None
    looks: Mapping[str, tuple[str, str]]
    groups: tuple[GroupContent, ...]
    tasks: tuple[TaskContent, ...]
    warnings: tuple[str, ...]

    @property
    def lead(self) -> str:
        """What was run, in a sentence."""
        agents, seeds = len(self.looks), len({run.seed for run in self.read.runs})
        return (
            f"{_count(len(self.read.runs), 'run')} of {_count(agents, 'agent')} on "
            f"{_count(len(self.tasks), 'task')}, {_count(seeds, 'seed')}. All intervals are 95% "
            "percentile intervals of a bootstrap that draws the runs of each task again."
        )

    @property
    def command(self) -> str:
        """What makes the same report."""
        words = ["dqmq report", *self.read.folders]
        if self.reference is not None:
            words.append(f'--reference "{self.reference}"')
        return " ".join(words)


def build(read: Runs, reference: str | None = None, effort: Effort | None = None) -> Content:
    """Work out all that a report shows.

    Args:
        read: the runs.
        reference: name of the agent that others are compared with; random search where left out.
        effort: spent on the intervals.

    Raises:
        SettingError: there is no such agent.
    """
    effort = effort or Effort()
    agents = sorted({run.agent for run in read.runs})
    chosen = _reference(agents, reference)
    groups = groups_of(read.runs)
    return Content(
        read,
        chosen,
        dict(sorted(looks(agents).items())),
        tuple(_group_content(group, chosen, effort) for group in groups),
        tuple(
            TaskContent(
                task,
                runs,
                learning_curves(runs, effort.profiles),
                uniform_means(runs, effort.profiles),
                means(runs, effort.profiles),
                *condition_accuracies(runs, effort.profiles),
            )
            for task, runs in by_task(read.runs).items()
        ),
        tuple(warnings(read, groups, chosen)),
    )


def _reference(agents: Sequence[str], asked: str | None) -> str | None:
    if asked is not None:
        if asked not in agents:
            raise SettingError(f"reference: got {asked!r}, allowed are {', '.join(agents)}")
        return asked
    random = [agent for agent in agents if agent.lower().startswith("random")]
    return min(random, key=len) if random else None


def _group_content(group: Group, reference: str | None, effort: Effort) -> GroupContent:
    places = thresholds(group)
    return GroupContent(
        group,
        verdicts(group, reference, effort.aggregates),
        places,
        profiles(group, places, effort.profiles),
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + "s" * (number != 1)
