"""Pictures of what is to be won: fronts by condition, value of a choice, regret of a search."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from dqmq_env.benchmark.picture import (
    GREY,
    cost_axis,
    label_ends,
    log_ticks,
    log_x_axis,
    looks,
    picture,
)

CLEAN: Final = "clean"

_WIDTH: Final = 7.6
_MARKS: Final[dict[str, Any]] = {"markersize": 5.5, "markeredgewidth": 0.6}
_SMALL_MARKS: Final[dict[str, Any]] = {"markersize": 4, "markeredgewidth": 0.3, "linewidth": 1.2}

_Numbers = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Accuracy against the average budget, for one way to choose the bits.

    Attributes:
        budgets: average BOPs as fractions of the network's at 8 bits, above 0, ascending.
        accuracy: at each of ``budgets``, in [0, 1].

    Raises:
        ValueError: there are no numbers, not as many of both, or one is out of its range.
    """

    budgets: Sequence[float]
    accuracy: Sequence[float]

    def __post_init__(self) -> None:
        _check_places("budgets", self.budgets)
        _check_values("accuracy", self.accuracy, self.budgets, most=1)


@dataclass(frozen=True)
class Gain:
    """What one way to choose the bits wins over another at the same average budget.

    Attributes:
        budgets: average BOPs as fractions of the network's at 8 bits, above 0, ascending.
        points: gain in percentage points of accuracy at each of ``budgets``, in [-100, 100].
        low: lower ends of the 95% intervals of ``points``.
        high: upper ends of them.

    Raises:
        ValueError: there are no numbers, not as many of all four, or one is out of its range.
    """

    budgets: Sequence[float]
    points: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]

    def __post_init__(self) -> None:
        _check_places("budgets", self.budgets)
        for name in ("points", "low", "high"):
            _check_values(name, getattr(self, name), self.budgets, -100, 100)
        _check_order("points", self.points, self.low, self.high)


@dataclass(frozen=True)
class RegretCurve:
    """Regret of the best assignment found so far, over the seeds of one method.

    Attributes:
        evaluations: assignments evaluated so far, above 0, ascending.
        median: regret after each of ``evaluations``, median over the seeds; 0 is the optimum, 1 the
            mean of random assignments.
        low: a lower quantile over the seeds, such as the first quartile; at least 0.
        high: an upper quantile over them.

    Raises:
        ValueError: there are no numbers, not as many of all four, or one is out of its range.
    """

    evaluations: Sequence[float]
    median: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]

    def __post_init__(self) -> None:
        _check_places("evaluations", self.evaluations)
        for name in ("median", "low", "high"):
            _check_values(name, getattr(self, name), self.evaluations)
        _check_order("median", self.median, self.low, self.high)


def plot_fronts(
    fronts: Mapping[str, Sequence[tuple[float, float]]], path: str | Path, *, title: str
) -> None:
    """Write a plot of the best accuracy at each cost, one line for each condition, as PNG.

    Args:
        fronts: condition to its points, by ascending cost; a point is its BOPs as a fraction of the
            network's at 8 bits, above 0, and its accuracy in [0, 1]. The line of ``clean`` is grey.
        path: file to write; folders that are missing are made.
        title: what the picture shows, in plain words.

    Raises:
        ValueError: there is no front, or one has no points or numbers out of range.
        OSError: the file cannot be written.
    """
    if not fronts:
        raise ValueError("fronts: got none, must be at least one condition")
    for condition, points in fronts.items():
        costs = [cost for cost, _ in points]
        _check_places(f"fronts: costs of {condition!r}", costs)
        accuracy = [accuracy for _, accuracy in points]
        _check_values(f"fronts: accuracy of {condition!r}", accuracy, costs, most=1)
    with picture(path, title, _WIDTH, max(5.0, 1.7 + 0.2 * len(fronts))) as figure:
        axes = figure.add_subplot()
        axes.margins(y=0.08)
        ends = {}
        for condition, (colour, marker) in looks(fronts, CLEAN).items():
            percent = 100 * np.array(fronts[condition], np.float64)
            axes.plot(*percent.T, color=colour, marker=marker, **_SMALL_MARKS, label=condition)
            ends[condition] = ((percent[-1, 0], percent[-1, 1]), colour)
        cost_axis(axes, [cost for points in fronts.values() for cost, _ in points])
        axes.set_ylabel("accuracy (%)")
        axes.grid()
        label_ends(figure, axes, ends)


def plot_value(
    curves: Mapping[str, Curve],
    gains: Mapping[str, Gain],
    path: str | Path,
    *,
    title: str,
    reference: str,
) -> None:
    """Write a plot of accuracy against average budget, above one of the gains, as PNG.

    Args:
        curves: name, such as ``best single assignment``, to its curve.
        gains: names among ``curves`` to their gains over ``reference``; at least one. A gain has
            the look of its curve.
        path: file to write; folders that are missing are made.
        title: what the picture shows, in plain words.
        reference: the name among ``curves`` that gains are over; its curve is grey.

    Raises:
        ValueError: ``reference`` or a name of ``gains`` is none of ``curves``, there are no gains,
            or one is of ``reference`` itself.
        OSError: the file cannot be written.
    """
    if reference not in curves:
        raise ValueError(f"reference: got {reference!r}, must be one of {list(curves)}")
    others = [name for name in curves if name != reference]
    if not gains or not gains.keys() <= set(others):
        raise ValueError(f"gains: got {list(gains)}, must be one or more of {others}")
    with picture(path, title, _WIDTH, 7.2) as figure:
        upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 2))
        styles = looks(curves, reference)
        for name, curve in curves.items():
            colour, marker = styles[name]
            percent = 100 * np.array([curve.budgets, curve.accuracy], np.float64)
            upper.plot(*percent, color=colour, marker=marker, **_MARKS, label=name)
        lower.axhline(0, color=GREY, linewidth=1.2)
        for name, gain in gains.items():
            colour, marker = styles[name]
            budgets = 100 * np.array(gain.budgets, np.float64)
            _draw_band(lower, budgets, gain.low, gain.high, colour)
            lower.plot(budgets, gain.points, color=colour, marker=marker, **_MARKS)
        drawn: tuple[Curve | Gain, ...] = (*curves.values(), *gains.values())
        cost_axis(lower, [budget for line in drawn for budget in line.budgets])
        upper.set_ylabel("accuracy (%)")
        lower.set_ylabel(f"gain over {reference}\n(points, with 95% interval)")
        for axes in (upper, lower):
            axes.margins(y=0.1)
            axes.grid()
        figure.align_ylabels()
        _legend(figure, list(curves))


def plot_regret(
    curves: Mapping[str, RegretCurve], path: str | Path, *, title: str, floor: float = 1e-3
) -> None:
    """Write a plot of regret against evaluations, both on logarithmic axes, as PNG.

    Args:
        curves: method to its curve; the line is the median, the band goes from ``low`` to ``high``.
        path: file to write; folders that are missing are made.
        title: what the picture shows, in plain words.
        floor: regret below it is drawn at it, so that 0 is seen, and its tick says so; the axis
            begins there where anything is below it.

    Raises:
        ValueError: there is no curve, or ``floor`` is not between 0 and 1.
        OSError: the file cannot be written.
    """
    if not curves:
        raise ValueError("curves: got none, must be at least one method")
    if not 0 < floor < 1:
        raise ValueError(f"floor: got {floor}, must be above 0 and below 1")
    with picture(path, title, _WIDTH, 5.4) as figure:
        axes = figure.add_subplot()
        for index, (method, (colour, marker)) in enumerate(looks(curves).items()):
            curve = curves[method]
            median, low, high = (
                np.maximum(line, floor) for line in (curve.median, curve.low, curve.high)
            )
            _draw_band(axes, curve.evaluations, low, high, colour)
            (line,) = axes.plot(
                curve.evaluations, median, color=colour, marker=marker, **_MARKS, label=method
            )
            if len(median) > 1:
                line.set_markevery((0.12 * index / len(curves), 0.12))
        evaluations = [count for curve in curves.values() for count in curve.evaluations]
        log_x_axis(axes, evaluations, "evaluations (log scale)")
        _regret_axis(axes, curves, floor)
        axes.grid()
        _legend(figure, list(curves))


def _check_places(name: str, places: Sequence[float]) -> None:
    """Refuse places along a logarithmic axis that are none, not above 0, or go back."""
    numbers = np.asarray(places, np.float64)
    positive = (numbers > 0) & (numbers < math.inf)
    if numbers.ndim != 1 or numbers.size == 0 or not positive.all() or (np.diff(numbers) < 0).any():
        raise ValueError(
            f"{name}: got {numbers.tolist()}, must be one or more finite numbers above 0, ascending"
        )


def _check_values(
    name: str,
    values: Sequence[float],
    places: Sequence[float],
    least: float = 0,
    most: float = math.inf,
) -> None:
    """Refuse values that are not one for each of ``places``, or out of range."""
    numbers = np.asarray(values, np.float64)
    inside = np.isfinite(numbers) & (least <= numbers) & (numbers <= most)
    if numbers.shape != (len(places),) or not inside.all():
        raise ValueError(
            f"{name}: got {numbers.tolist()}, must be {len(places)} finite numbers, each from "
            f"{least} to {most}"
        )


def _check_order(
    name: str, values: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> None:
    """Refuse a value out of its interval."""
    for value, start, end in zip(values, low, high, strict=True):
        if not start <= value <= end:
            raise ValueError(f"{name}: got {value} in [{start}, {end}], must be in its interval")


def _regret_axis(axes: Axes, curves: Mapping[str, RegretCurve], floor: float) -> None:
    """Make the y axis logarithmic; it reaches to 1, and begins at ``floor`` if that is needed."""
    least = min(min(curve.low) for curve in curves.values())
    top = 1.2 * max(1.0, *(max(curve.high) for curve in curves.values()))
    bottom = max(least, floor)
    ticks = [tick for tick in log_ticks(bottom, top) if 1.2 * bottom < tick < top]
    texts = [f"{tick:g}" for tick in ticks]
    if least < floor:
        ticks, texts = [floor, *ticks], [f"≤ {floor:g}", *texts]
    axes.set_yscale("log")
    axes.set_yticks(ticks, texts)
    axes.set_ylim(bottom / 1.2, top)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("regret (0 = optimum, 1 = mean of random assignments)")


def _draw_band(axes: Axes, places: _Numbers, low: _Numbers, high: _Numbers, colour: str) -> None:
    """Shade what lies between two lines; a single place gets a stroke."""
    if len(places) == 1:
        axes.vlines(places, low, high, color=colour, alpha=0.4, linewidth=3)
    else:
        axes.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0)


def _legend(figure: Figure, names: Sequence[str]) -> None:
    """Put a legend below, in as many columns as the names leave room for."""
    columns = int(90 / (max(map(len, names)) + 7))
    figure.legend(loc="outside lower center", ncols=min(max(columns, 1), 4))
