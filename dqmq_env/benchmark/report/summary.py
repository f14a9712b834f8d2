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

UNIFORM = "uniform bits"
"""What tables call the best single width that keeps to the budget."""

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
    """The costs that all runs know: BOPs and size, before them another that all are about."""
    every = list(runs)
    rows = [score.costs.keys() for run in every for score in run.result.scores]
    known = set(rows[0]).intersection(*rows)
    asked = {str(run.result.job.env.get("cost", "bops")) for run in every}
    first = [*(asked - {*_FIRST_COSTS} if len(asked) == 1 else ()), *_FIRST_COSTS]
    return [name for name in first if name in known] + sorted(known - {*first})


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
    known = _known(runs)
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


def uniform_means(runs: Sequence[Run], resamples: int) -> Means:
    """The same for uniform bits, which are no runs of their own: once for each seed.

    Args:
        runs: of one task.
        resamples: of the intervals, where seeds differ.
    """
    results = _uniform(runs)
    reward = runs[0].uniform_reward
    best = results[0].optimum if knows_optimum(runs) else None
    accuracies = {
        name: _over_seeds([_accuracy(own.uniform, name) for own in results], resamples)
        for name in _known(runs)
    }
    costs = {name: _cost(results[0].uniform, name) for name in cost_names(runs)}
    share = None if best is None else _exact(reward / best)
    return Means(UNIFORM, 0, _exact(reward), share, accuracies, costs)


def condition_accuracies(
    runs: Sequence[Run], resamples: int
) -> tuple[str, dict[str, dict[str, Interval]]]:
    """Accuracy on ``test`` under each condition, after fine-tuning where all runs have that.

    Args:
        runs: of one task.
        resamples: of the intervals.

    Returns:
        ``test`` or ``tuned``, and agent to condition to the interquartile mean over its runs, the
        best in the mean over conditions first and uniform bits last; top-1, in [0, 1].
    """
    split = splits(runs)[-1]
    found = {
        agent: _by_condition([run.result.scores for run in own], split, resamples)
        for agent, own in by_agent(runs).items()
    }
    order = sorted(found, key=lambda agent: -sum(own.value for own in found[agent].values()))
    uniform = _by_condition([own.uniform for own in _uniform(runs)], split, resamples)
    return split, {agent: found[agent] for agent in order} | {UNIFORM: uniform}


def _by_condition(
    rows: Sequence[Sequence[Score]], split: str, resamples: int
) -> dict[str, Interval]:
    return {
        scores[0].condition: _over_seeds([_top_1(score, split) for score in scores], resamples)
        for scores in zip(*rows, strict=True)
    }


def _uniform(runs: Sequence[Run]) -> list[Result]:
    """One result for each seed: all of a seed have the same uniform bits, trained alike."""
    return list({run.seed: run.result for run in reversed(runs)}.values())[::-1]


def _known(runs: Sequence[Run]) -> list[str]:
    return ["accuracy", *splits(runs)]


def _accuracy(scores: Sequence[Score], name: str) -> float:
    return over_mixture(scores, lambda score: _top_1(score, name))


def _top_1(score: Score, name: str) -> float:
    value = getattr(score, name)
    return math.nan if value is None else float(value)


def _cost(scores: Sequence[Score], name: str) -> float:
    return over_mixture(scores, lambda score: score.costs[name])


def _interval(values: Sequence[float], resamples: int) -> Interval:
    return interval([np.array(values)], iqm, resamples)


def _over_seeds(values: Sequence[float], resamples: int) -> Interval:
    """Without an interval where all are the same, as what nothing was drawn for is."""
    if len(set(values)) == 1 or any(map(math.isnan, values)):
        return _exact(values[0])
    return _interval(values, resamples)


def _exact(value: float) -> Interval:
    return Interval(value, math.nan, math.nan)
