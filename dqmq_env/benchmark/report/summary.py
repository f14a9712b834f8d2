"""What plots and tables show of the runs on a task, or of a group of tasks."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dqmq_env.benchmark.job import Result, Score
from dqmq_env.benchmark.report.groups import NORMALISED, Group
from dqmq_env.benchmark.report.runs import Run, over_mixture
from dqmq_env.benchmark.statistics import (
    PROFILE_RESAMPLES,
    Band,
    Interval,
    Numbers,
    band,
    interval,
    iqm,
    profile,
)

SPLITS = ("test", "tuned")

FLOOR = 1e-4
"""Distances to the optimum below it are shown at it, since the axis is logarithmic."""

_PLACES = 60
_FIRST_COSTS = ("bops", "size")


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """The best tried so far by the runs of an agent on a task, interquartile mean over the runs.

    Attributes:
        evaluations: from where every run has a value, ascending, shape (P,).
        band: of shares of the optimum's reward, or of rewards.
    """

    evaluations: NDArray[np.int64]
    band: Band


@dataclass(frozen=True, eq=False)
class BitsMap:
    """Bits of each layer under each condition, in the mean over the runs of an agent on a task.

    Attributes:
        layers: in forward order.
        conditions: in the order of the mixture.
        bits: shape (layers, conditions).
    """

    layers: tuple[str, ...]
    conditions: tuple[str, ...]
    bits: Numbers


@dataclass(frozen=True)
class Means:
    """What the runs of an agent came to on a task, interquartile means over the runs.

    Attributes:
        agent: its name.
        runs: their number.
        reward: of their rules, over the mixture.
        share: of the optimum's reward; ``None`` where no optimum is known.
        accuracies: ``search``, ``test`` and ``tuned``, where all runs have it, to top-1.
        costs: name to the fraction of that at 8 bits.
    """

    agent: str
    runs: int
    reward: Interval
    share: Interval | None
    accuracies: Mapping[str, Interval]
    costs: Mapping[str, float]


def by_agent(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs of one task by their agents."""
    found: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.agent].append(run)
    return dict(found)


def by_task(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by their tasks."""
    found: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.task].append(run)
    return dict(found)


def knows_optimum(runs: Iterable[Run]) -> bool:
    """Whether all rewards can be told as shares of the optimum's."""
    return all(run.share is not None for run in runs)


def learning_curves(
    runs: Sequence[Run], resamples: int = PROFILE_RESAMPLES
) -> dict[str, LearningCurve]:
    """The curve of each agent on a task, as shares of the optimum's reward where all know it.

    Args:
        runs: of one task.
        resamples: of the intervals.
    """
    shares = knows_optimum(runs)
    return {agent: _curve(own, shares, resamples) for agent, own in by_agent(runs).items()}


def _curve(runs: Sequence[Run], shares: bool, resamples: int) -> LearningCurve:
    first = max(1, *(run.curve[0][0] for run in runs))
    last = max(first, *(_end(run) for run in runs))
    changes = {count for run in runs for count, _ in run.curve if first <= count <= last}
    places = np.array(sorted({first, last} | changes))
    if len(places) > _PLACES:
        places = np.unique(np.geomspace(first, last, _PLACES).round().astype(np.int64))
    values = np.array(
        [_values_at(run, places) / (run.known_optimum if shares else 1) for run in runs]
    )
    return LearningCurve(places, band([values], iqm, resamples))


def distance(curve: LearningCurve) -> LearningCurve:
    """By how much shares of the optimum's reward are below 1."""
    own = curve.band
    turned = (np.maximum(1 - part, FLOOR) for part in (own.value, own.high, own.low))
    return LearningCurve(curve.evaluations, Band(*turned))


def _end(run: Run) -> int:
    return max(run.result.spent["evaluations"], run.curve[-1][0])


def _values_at(run: Run, places: NDArray[np.int64]) -> Numbers:
    """The last value of a curve up to each place; none of them lies before the curve."""
    counts, rewards = zip(*run.curve, strict=True)
    return np.array(rewards)[np.searchsorted(counts, places, side="right") - 1]


def thresholds(group: Group) -> Numbers:
    """Scores from the worst run to the best, or to the optimum."""
    scores = [group.score(run) for run in group.runs]
    most = max(*scores, 1.0) if group.scale is NORMALISED else max(scores)
    least = min(*scores, 0.0)
    room = 0.02 * (most - least) or 0.02
    return np.linspace(least - room, most + room, 121)


def profiles(group: Group, places: Numbers, resamples: int = PROFILE_RESAMPLES) -> dict[str, Band]:
    """The performance profile of each agent that ran on all tasks of a group.

    Args:
        group: the runs.
        places: thresholds of the score.
        resamples: of the intervals.
    """
    scores = {agent: group.scores(agent) for agent in group.agents}
    return {
        agent: profile(list(own.values()), places, resamples)
        for agent, own in scores.items()
        if len(own) == len(group.tasks)
    }


def cost_names(runs: Iterable[Run]) -> list[str]:
    """The costs that all runs know, BOPs and size first."""
    rows = [score.costs.keys() for run in runs for score in run.result.scores]
    known = set(rows[0]).intersection(*rows)
    return [name for name in _FIRST_COSTS if name in known] + sorted(known - {*_FIRST_COSTS})


def splits(runs: Iterable[Run]) -> list[str]:
    """``test``, and ``tuned`` where all runs were fine-tuned."""
    return list(SPLITS if all(run.tuned for run in runs) else SPLITS[:1])


def bits_maps(runs: Sequence[Run]) -> dict[str, BitsMap]:
    """What is decided to its map: ``bits``, or apart where layers' two widths differ.

    Args:
        runs: of one agent on one task.
    """
    conditions = tuple(score.condition for score in runs[0].result.scores)
    layers = tuple(runs[0].result.rule[conditions[0]])
    widths = np.array([[_widths(run.result, own, layers) for own in conditions] for run in runs])
    average = widths.mean(0).transpose(2, 1, 0)
    if (widths[..., 0] == widths[..., 1]).all():
        return {"bits": BitsMap(layers, conditions, average[0])}
    parts = zip(("bits of weights", "bits of activations"), average, strict=True)
    return {name: BitsMap(layers, conditions, own) for name, own in parts}


def _widths(result: Result, condition: str, layers: Sequence[str]) -> list[list[int]]:
    return [result.rule[condition][layer] for layer in layers]


def means(runs: Sequence[Run], resamples: int) -> list[Means]:
    """What each agent came to on a task, the highest reward first.

    Args:
        runs: of one task.
        resamples: of the intervals.
    """
    shares, found = knows_optimum(runs), []
    known = ["accuracy", *splits(runs)]
    costs = cost_names(runs)
    for agent, own in by_agent(runs).items():
        found.append(
            Means(
                agent,
                len(own),
                _interval([run.result.reward for run in own], resamples),
                _interval([run.share or 0 for run in own], resamples) if shares else None,
                {
                    name: _interval([_accuracy(run.result.scores, name) for run in own], resamples)
                    for name in known
                },
                {
                    name: float(iqm(np.array([_cost(run.result.scores, name) for run in own])))
                    for name in costs
                },
            )
        )
    return sorted(found, key=lambda row: (-row.reward.value, row.agent))


def uniform_means(runs: Sequence[Run]) -> Means:
    """The same for uniform bits, which are no runs."""
    first, result = runs[0], runs[0].result
    reward = first.uniform_reward
    best = result.optimum if knows_optimum(runs) else None
    accuracies = {
        name: _exact(
            _accuracy(result.uniform, name) if name != "tuned" or first.tuned_uniform else math.nan
        )
        for name in ("accuracy", *splits(runs))
    }
    costs = {name: _cost(result.uniform, name) for name in cost_names(runs)}
    share = None if best is None else _exact(reward / best)
    return Means("uniform bits", 0, _exact(reward), share, accuracies, costs)


def _accuracy(scores: Sequence[Score], name: str) -> float:
    return over_mixture(scores, lambda score: float(getattr(score, name)))


def _cost(scores: Sequence[Score], name: str) -> float:
    return over_mixture(scores, lambda score: score.costs[name])


def _interval(values: Sequence[float], resamples: int) -> Interval:
    return interval([np.array(values)], iqm, resamples)


def _exact(value: float) -> Interval:
    return Interval(value, math.nan, math.nan)
