"""The pictures of the Markdown report, as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from dqmq_env.benchmark.picture import GREY, log_x_axis, picture
from dqmq_env.benchmark.report.figures import Looks
from dqmq_env.benchmark.report.groups import NORMALISED, Group
from dqmq_env.benchmark.report.panels import Panel, cost_span
from dqmq_env.benchmark.report.summary import FLOOR, LearningCurve, distance
from dqmq_env.benchmark.statistics import Band, Numbers

_WIDTH: Final = 8.4
_COLUMNS: Final = 3
_MARKS: Final[dict[str, Any]] = {"linestyle": "none", "markersize": 5, "markeredgewidth": 0.4}
_LINES: Final[dict[str, Any]] = {
    "linewidth": 2,
    "markersize": 6,
    "markeredgewidth": 0.5,
}
_SPACING: Final = 0.12


def draw_curves(
    curves: Mapping[str, LearningCurve],
    looks: Looks,
    uniform: float,
    shares: bool,
    path: Path,
    title: str,
) -> None:
    """Write a plot of the best tried so far against evaluations.

    Args:
        curves: of each agent.
        looks: of each agent.
        uniform: what uniform bits have.
        shares: whether values are shares of the optimum's reward; how far they are below it is
            shown beside, on a logarithmic axis.
        path: file to write.
        title: what the picture shows.
    """
    with picture(path, title, 11.0 if shares else _WIDTH, 5.0) as figure:
        axes, *others = figure.subplots(1, 2 if shares else 1, squeeze=False)[0]
        _draw_lines(axes, curves, looks, uniform)
        axes.set_ylabel("share of the optimum's reward" if shares else "reward")
        if shares:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        for beside in others:
            lacking = {agent: distance(own) for agent, own in curves.items()}
            beside.set_yscale("log")
            _draw_lines(beside, lacking, looks, max(1 - uniform, FLOOR))
            beside.set_ylabel("below the optimum's reward (log scale)")
            beside.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
            beside.yaxis.set_minor_locator(NullLocator())
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(looks), 4)
        )


def _draw_lines(
    axes: Axes, curves: Mapping[str, LearningCurve], looks: Looks, uniform: float
) -> None:
    axes.axhline(uniform, color=GREY, linestyle="--", lw=1.2, label="uniform bits")
    for agent, curve in curves.items():
        own = curve.band
        colour, marker = looks[agent]
        axes.fill_between(curve.evaluations, own.low, own.high, color=colour, alpha=0.18, lw=0)
        (line,) = axes.plot(
            curve.evaluations, own.value, color=colour, marker=marker, label=agent, **_LINES
        )
        if len(curve.evaluations) > 1:
            line.set_markevery(_SPACING)
    places = [float(place) for curve in curves.values() for place in curve.evaluations]
    log_x_axis(axes, places, "evaluations (log scale)")
    axes.grid()


def draw_profiles(
    group: Group,
    places: Numbers,
    profiles: Mapping[str, Band],
    looks: Looks,
    path: Path,
    title: str,
) -> None:
    """Write a plot of the share of runs above each score.

    Args:
        group: the runs.
        places: the scores.
        profiles: of each agent.
        looks: of each agent.
        path: file to write.
        title: what the picture shows.
    """
    with picture(path, title, _WIDTH, 5.0) as figure:
        axes = figure.add_subplot()
        for place in (0, 1) if group.scale is NORMALISED else (0,):
            axes.axvline(place, color=GREY, linestyle=":", lw=1.2)
        for agent, own in profiles.items():
            colour, marker = looks[agent]
            axes.fill_between(places, own.low, own.high, color=colour, alpha=0.18, lw=0)
            (line,) = axes.plot(
                places, own.value, color=colour, marker=marker, label=agent, **_LINES
            )
            line.set_markevery(_SPACING)
        axes.set(xlabel=f"{group.scale.name}, higher is better", ylabel="share of runs above it")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid()
        _legend(figure, len(profiles))


def draw_panels(
    panels: Sequence[Panel], looks: Looks, cost: str, split: str, path: Path, title: str
) -> None:
    """Write plots of accuracy against cost, a panel for each condition.

    Args:
        panels: over the mixture first.
        looks: of each agent.
        cost: what it is called.
        split: what the accuracy is of.
        path: file to write.
        title: what the picture shows.
    """
    rows = -(-(len(panels) - 1) // _COLUMNS)
    label = f"{cost}, % of 8 bits (log scale)"
    span = cost_span(panels)
    with picture(path, title, 9.6, 4.4 + 2.3 * rows) as figure:
        grid = figure.add_gridspec(rows + 1, _COLUMNS, height_ratios=[1.4, *[1] * rows])
        for index, panel in enumerate(panels):
            row, column = divmod(index - 1, _COLUMNS)
            place = grid[row + 1, column] if index else grid[0, :]
            axes = figure.add_subplot(place)
            _draw_panel(axes, panel, looks, index == 0)
            last = index == 0 or index + _COLUMNS >= len(panels)
            log_x_axis(axes, span, label if last else "")
            if column == 0 or index == 0:
                axes.set_ylabel(f"{split} (%)")
        figure.align_ylabels()
        _legend(figure, len(looks) + 2)


def _draw_panel(axes: Axes, panel: Panel, looks: Looks, named: bool) -> None:
    front = np.array([(100 * point.cost, 100 * point.accuracy) for point in panel.front])
    axes.step(
        *front.T,
        where="post",
        color=GREY,
        lw=1.2,
        label="best at each cost" if named else None,
    )
    for agent, (colour, marker) in looks.items():
        own = [
            (100 * point.cost, 100 * point.accuracy)
            for point in panel.points
            if point.agent == agent
        ]
        if own:
            axes.plot(
                *np.array(own).T,
                color=colour,
                marker=marker,
                label=agent if named else None,
                **_MARKS,
            )
    if panel.uniform is not None:
        cost, accuracy = 100 * panel.uniform.cost, 100 * panel.uniform.accuracy
        axes.axhline(accuracy, color=GREY, linestyle="--", lw=1.2)
        marks = _MARKS | {"markersize": 11}
        name = "uniform bits" if named else None
        axes.plot(
            cost, accuracy, color=GREY, marker="*", label=name, **(marks | {"linestyle": "--"})
        )
    axes.set_title(panel.condition, size=10, weight="bold", loc="left")
    axes.margins(y=0.12)
    axes.grid()


def _legend(figure: Figure, entries: int) -> None:
    figure.legend(loc="outside lower center", ncols=min(entries, 4))
