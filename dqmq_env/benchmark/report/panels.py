"""Accuracy against cost, under each condition."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dqmq_env.benchmark.job import Score
from dqmq_env.benchmark.report.runs import Run, over_mixture
from dqmq_env.problem.fronts import pareto

MIXTURE = "all conditions"

_FAR = 2.0


@dataclass(frozen=True)
class Point:
    """The rule of a run, or uniform bits, in a plot of accuracy against cost.

    Attributes:
        agent: its name.
        seed: of the run.
        cost: as a fraction of that at 8 bits.
        accuracy: in [0, 1].
    """

    agent: str
    seed: int
    cost: float
    accuracy: float


@dataclass(frozen=True)
class Panel:
    """Accuracy against cost under one condition, or in the mean over the mixture.

    Attributes:
        condition: its text.
        points: of all runs, by agent and seed.
        front: those that no other beats in both cost and accuracy, by ascending cost.
        uniform: what uniform bits have; ``None`` where they were not fine-tuned.
    """

    condition: str
    points: tuple[Point, ...]
    front: tuple[Point, ...]
    uniform: Point | None

    @property
    def marks(self) -> tuple[Point, ...]:
        """All that is drawn."""
        return self.points if self.uniform is None else (*self.points, self.uniform)


def panels(runs: Sequence[Run], split: str, cost: str) -> list[Panel]:
    """Accuracy against cost: over the mixture, then under each condition.

    Args:
        runs: of one task.
        split: ``test``, or ``tuned`` where all runs have it.
        cost: name of the cost.
    """
    conditions = [score.condition for score in runs[0].result.scores]
    return [_panel(runs, split, cost, condition) for condition in (MIXTURE, *conditions)]


def _panel(runs: Sequence[Run], split: str, cost: str, condition: str) -> Panel:
    points = tuple(
        Point(run.agent, run.seed, *_place(run.result.scores, split, cost, condition))
        for run in runs
    )
    costs, accuracies = np.array([(point.cost, point.accuracy) for point in points]).T
    front = tuple(points[place] for place in pareto(costs, accuracies))
    uniform = None
    if split != "tuned" or runs[0].tuned_uniform:
        place = _place(runs[0].result.uniform, split, cost, condition)
        uniform = Point("uniform bits", 0, *place)
    return Panel(condition, points, front, uniform)


def cost_span(panels: Sequence[Panel]) -> tuple[float, float]:
    """Costs of all runs, in percent; of uniform bits too, where that is not far off."""
    costs = [100 * point.cost for panel in panels for point in panel.points]
    uniform = [100 * panel.uniform.cost for panel in panels if panel.uniform is not None]
    near = [cost for cost in uniform if min(costs) / _FAR <= cost <= max(costs) * _FAR]
    return min(costs + near), max(costs + near)


def _place(scores: Sequence[Score], split: str, cost: str, condition: str) -> tuple[float, float]:
    """Cost and accuracy under a condition, or over the mixture."""
    own = [score for score in scores if condition in (MIXTURE, score.condition)]
    total = math.fsum(score.share for score in own)
    if total == 0:
        return own[0].costs[cost], float(getattr(own[0], split))
    return (
        over_mixture(own, lambda score: score.costs[cost]) / total,
        over_mixture(own, lambda score: float(getattr(score, split))) / total,
    )
