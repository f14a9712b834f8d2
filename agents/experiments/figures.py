"""What may be said of an experiment's results: means over seeds, and differences by equal seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import stdtrit

from agents.experiments.judge import SEEN, Row
from agents.experiments.result import RunResult
from dqmq_env.benchmark.statistics import Interval, sign_test
from dqmq_env.quality.condition import Condition

Number = Callable[[RunResult], float]
"""Of one run, such as its accuracy."""


@dataclass(frozen=True)
class Difference:
    """By how much one method is above another, over the seeds that both have.

    Attributes:
        points: percentage points, with the 95% interval.
        chance: how likely so large a mean difference is if both are alike (sign-flip test).
        seeds: number of common seeds.
    """

    points: Interval
    chance: float
    seeds: int


def mean_of(values: Sequence[float]) -> Interval:
    """The mean with its 95% interval by Student's t; NaN at its ends where there is one value."""
    count = len(values)
    centre = float(np.mean(values))
    if count < 2:
        return Interval(centre, float("nan"), float("nan"))
    half = float(stdtrit(count - 1, 0.975)) * float(np.std(values, ddof=1)) / sqrt(count)
    return Interval(centre, centre - half, centre + half)


def difference(
    results: Sequence[RunResult],
    method: str,
    other: str,
    number: Number = lambda own: 100 * own.accuracy(SEEN),
) -> Difference | None:
    """Compare two methods by equal seeds; ``None`` where they have none in common.

    Args:
        results: of one budget.
        method: the one.
        other: what it is compared with.
        number: of a run; percent of accuracy by default.
    """
    first = {own.run.seed: own for own in results if own.run.method == method}
    second = {own.run.seed: own for own in results if own.run.method == other}
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    apart = np.array([number(first[seed]) - number(second[seed]) for seed in seeds])
    return Difference(mean_of(apart.tolist()), sign_test([apart]), len(seeds))


def by_method(results: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Method to its results, the most accurate first."""
    found: dict[str, list[RunResult]] = {}
    for own in results:
        found.setdefault(own.run.method, []).append(own)
    return dict(sorted(found.items(), key=lambda item: -accuracy_of(item[1]).value))


def by_budget(results: Sequence[RunResult]) -> dict[float, list[RunResult]]:
    """Budget to its results, ascending."""
    budgets = sorted({own.run.budget for own in results})
    return {budget: [own for own in results if own.run.budget == budget] for budget in budgets}


def accuracy_of(results: Sequence[RunResult], name: str = SEEN) -> Interval:
    """Mean accuracy in percent over runs, on a set of images."""
    return mean_of([100 * own.accuracy(name) for own in results])


def cost_of(results: Sequence[RunResult], name: str = SEEN) -> float:
    """Mean BOPs in percent of those at 8 bits."""
    return float(np.mean([100 * own.cost(name) for own in results]))


def corruptions_of(results: Sequence[RunResult], name: str = SEEN) -> list[str]:
    """The corruptions that a set of images shows, in the order of its rows."""
    rows = results[0].rows[name]
    return list(dict.fromkeys(Condition.parse(row.condition).corruption for row in rows))


def accuracy_under(corruption: str, name: str = SEEN) -> Number:
    """Percent of accuracy of a run on the images of one corruption, at all severities."""

    def number(own: RunResult) -> float:
        rows = _of(own.rows[name], corruption)
        return 100 * sum(row.correct for row in rows) / sum(row.images for row in rows)

    return number


def mean_bits(results: Sequence[RunResult]) -> Mapping[str, tuple[float, ...]]:
    """Condition to mean bits of each layer, over runs."""
    conditions = [row.condition for row in results[0].rows[SEEN]]
    found: dict[str, tuple[float, ...]] = {}
    for place, condition in enumerate(conditions):
        rows = [own.rows[SEEN][place].bits for own in results]
        found[condition] = tuple(np.mean(rows, 0).tolist())
    return found


def _of(rows: Sequence[Row], corruption: str) -> list[Row]:
    return [row for row in rows if Condition.parse(row.condition).corruption == corruption]
