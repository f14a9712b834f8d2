"""What may be said of a few runs: aggregates with 95% intervals, and comparisons of agents.

Aggregates, profiles and the probability of improvement are those of Agarwal et al. 2021, "Deep
Reinforcement Learning at the Edge of the Statistical Precipice". Intervals are percentiles of
resamples; runs are drawn again within each task, since the tasks are given and the runs are not.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

from dqmq_env.randomness import numpy_generator

RESAMPLES: Final = 50_000
PROFILE_RESAMPLES: Final = 2_000

Numbers = NDArray[np.float64]
Statistic = Callable[[Numbers], Numbers]
"""Numbers of shape (..., N) to one for each row, shape (...)."""
Scores = Sequence[Numbers]
"""The scores of an agent: for each task an array with one for each run."""

_ENDS = (0.025, 0.975)
_CHUNK = 5_000
_EXACT_PAIRS = 14
_FLIPS = 100_000


@dataclass(frozen=True)
class Interval:
    """A number with its 95% interval.

    Attributes:
        value: the number.
        low: lower end; NaN where no task has two runs.
        high: upper end, likewise.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Band:
    """Numbers at P places, each with its 95% interval.

    Attributes:
        value: shape (P,).
        low: lower ends, shape (P,); NaN where no task has two runs.
        high: upper ends, shape (P,).
    """

    value: Numbers
    low: Numbers
    high: Numbers

    def __getitem__(self, place: int) -> Interval:
        """The number at one place."""
        return Interval(float(self.value[place]), float(self.low[place]), float(self.high[place]))


def mean(values: Numbers) -> Numbers:
    """Over the last axis."""
    return np.asarray(np.mean(values, axis=-1))


def iqm(values: Numbers) -> Numbers:
    """Interquartile mean over the last axis: a quarter of the values is cut off at either side."""
    return np.asarray(trim_mean(values, 0.25, axis=-1))


def optimality_gap(values: Numbers) -> Numbers:
    """How far values are below 1 in the mean over the last axis; those above count as 1."""
    return np.asarray(1 - np.minimum(values, 1).mean(-1))


def interval(
    scores: Scores, statistic: Statistic, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """A statistic over all scores of all tasks, with its interval.

    Args:
        scores: for each task one of each run.
        statistic: what is worked out.
        resamples: how often runs are drawn again.
        seed: of the draws.
    """
    return band([own[:, None] for own in scores], statistic, resamples, seed)[0]


def band(values: Sequence[Numbers], statistic: Statistic, resamples: int, seed: int = 0) -> Band:
    """A statistic over all runs of all tasks at each of P places, with pointwise intervals.

    Args:
        values: for each task shape (runs, P).
        statistic: what is worked out over the runs.
        resamples: how often runs are drawn again; all places share the draws.
        seed: of the draws.
    """
    pooled = np.concatenate(values).T
    sizes = [len(own) for own in values]
    found = statistic(pooled)
    if max(sizes) < 2:
        unknown = np.full(len(found), math.nan)
        return Band(found, unknown, unknown)
    parts = [
        np.stack([statistic(row[draws]) for row in pooled], 1)
        for draws in _draws(sizes, resamples, seed)
    ]
    low, high = np.quantile(np.concatenate(parts), _ENDS, axis=0)
    return Band(found, low, high)


def profile(
    scores: Scores, thresholds: Numbers, resamples: int = PROFILE_RESAMPLES, seed: int = 0
) -> Band:
    """Performance profile: the share of runs whose score is above each threshold.

    Args:
        scores: for each task one of each run.
        thresholds: shape (P,).
        resamples: how often runs are drawn again.
        seed: of the draws.
    """
    above = [(own[:, None] > thresholds).astype(np.float64) for own in scores]
    return band(above, mean, resamples, seed)


def improvement(
    scores: Scores, others: Scores, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Probability that a run of one agent is better than one of another, in the mean over tasks.

    The statistic of Mann and Whitney; equal scores count half.

    Args:
        scores: of the one agent, for each task one of each run.
        others: of the other on the same tasks.
        resamples: how often the runs of both are drawn again.
        seed: of the draws.
    """
    wins = [
        (a[:, None] > b).astype(np.float64) + 0.5 * (a[:, None] == b)
        for a, b in zip(scores, others, strict=True)
    ]
    value = float(np.mean([own.mean() for own in wins]))
    if max(max(own.shape) for own in wins) < 2:
        return Interval(value, math.nan, math.nan)
    generator = numpy_generator(seed, "improvement")
    drawn = [_drawn_wins(own, resamples, generator) for own in wins]
    low, high = np.quantile(np.mean(drawn, axis=0), _ENDS)
    return Interval(value, float(low), float(high))


def paired_differences(
    scores: Sequence[Mapping[int, float]], others: Sequence[Mapping[int, float]]
) -> list[Numbers]:
    """By how much one agent is better than another by equal seeds.

    Args:
        scores: of the one agent, for each task seed to score.
        others: of the other on the same tasks.

    Returns:
        For each task that has common seeds one difference for each of them.
    """
    found = [
        np.array([own[seed] - other[seed] for seed in sorted(own.keys() & other.keys())])
        for own, other in zip(scores, others, strict=True)
    ]
    return [own for own in found if len(own)]


def sign_test(differences: Scores, seed: int = 0) -> float:
    """How likely a mean difference as large as this one is, were both agents alike.

    The two-sided permutation test of pairs (Fisher 1935): if nothing sets the agents apart, each
    difference could as well have the other sign. Exact for up to 14 pairs, from 100,000 draws of
    signs beyond.

    Args:
        differences: for each task one for each pair; at least one in all.
        seed: of the draws.
    """
    pooled = np.concatenate(differences)
    if len(pooled) <= _EXACT_PAIRS:
        signs = np.array(list(product((1.0, -1.0), repeat=len(pooled))))
        extra = 0
    else:
        generator = numpy_generator(seed, "signs")
        signs = generator.choice((1.0, -1.0), size=(_FLIPS, len(pooled)))
        extra = 1  # the signs that were observed are among those possible
    least = abs(pooled.sum()) - 1e-12 * np.abs(pooled).sum()
    as_large = int((np.abs(signs @ pooled) >= least).sum())
    return (as_large + extra) / (len(signs) + extra)


def holm(chances: Mapping[str, float]) -> dict[str, float]:
    """Chances of error adjusted for their number (Holm 1979), so that each can be compared to 5%.

    Args:
        chances: name of a comparison to its own chance, in [0, 1].
    """
    worst, found = 0.0, {}
    for rank, name in enumerate(sorted(chances, key=lambda own: chances[own])):
        worst = max(worst, min(1.0, (len(chances) - rank) * chances[name]))
        found[name] = worst
    return found


def first_reaching(curve: Sequence[tuple[int, float]], level: float) -> int | None:
    """The number of evaluations at which a curve first is at a level or above it, if ever."""
    return next((count for count, reward in curve if reward >= level), None)


def median_reaching(counts: Sequence[int | None]) -> float | None:
    """Median over runs of which some never get there (``None``); ``None`` if it is one of those."""
    middle = float(np.median([math.inf if count is None else count for count in counts]))
    return middle if math.isfinite(middle) else None


def _draws(sizes: Sequence[int], resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Places of runs among those of all tasks, drawn within each task, in chunks (R, N)."""
    generator = numpy_generator(seed, "bootstrap")
    starts = np.cumsum([0, *sizes[:-1]])
    for done in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - done)
        yield np.concatenate(
            [
                start + generator.integers(size, size=(count, size))
                for start, size in zip(starts, sizes, strict=True)
            ],
            1,
        )


def _drawn_wins(wins: Numbers, resamples: int, generator: np.random.Generator) -> Numbers:
    """Mean of a matrix of wins whose rows and columns are drawn again, shape (resamples,)."""
    rows, columns = (
        generator.multinomial(size, np.full(size, 1 / size), size=resamples) for size in wins.shape
    )
    return np.asarray(((rows @ wins) * columns).sum(1) / wins.size)
