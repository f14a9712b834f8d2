"""A picture of how far one method is above others, experiment by experiment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from dqmq_env.benchmark.picture import GREY, looks, picture
from dqmq_env.benchmark.statistics import Interval

_TICKS: Final = (-50, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50)


def plot_leads(
    leads: Mapping[str, Mapping[str, Interval]], path: str | Path, *, title: str, label: str
) -> None:
    """Write a forest plot as PNG: a panel for each experiment, a row for each opponent.

    Args:
        leads: experiment to opponent to the points that it is behind, with their interval, whose
            ends are NaN where they are not known; an experiment may lack opponents. Rows are in the
            order in which opponents come up; names of experiments are broken at commas. The axis is
            linear up to one point and logarithmic beyond, so that small leads stay visible.
        path: file to write; folders that are missing are made.
        title: what the picture shows, in plain words.
        label: of the axis.

    Raises:
        ValueError: there is no experiment, or one without opponents.
        OSError: the file cannot be written.
    """
    if not leads or not all(leads.values()):
        raise ValueError("leads: got an experiment without opponents, or none at all")
    opponents = list(dict.fromkeys(name for own in leads.values() for name in own))
    with picture(path, title, 2.4 + 2.0 * len(leads), 1.6 + 0.3 * len(opponents)) as figure:
        panels = figure.subplots(1, len(leads), sharex=True, sharey=True, squeeze=False)[0]
        ((colour, marker),) = looks(["one"], None).values()
        for axes, (name, own) in zip(panels, leads.items(), strict=True):
            for row in range(0, len(opponents), 2):
                axes.axhspan(row - 0.5, row + 0.5, color="#f3f5f7", linewidth=0, zorder=0)
            axes.axvline(0, color=GREY, linewidth=1, zorder=1)
            rows = [opponents.index(opponent) for opponent in own]
            values = np.array([(found.low, found.value, found.high) for found in own.values()])
            spans = np.nan_to_num(np.abs(values[:, ::2] - values[:, 1:2])).T
            axes.errorbar(
                *(values[:, 1], rows),
                xerr=spans,
                color=colour,
                marker=marker,
                markersize=5,
                linestyle="none",
            )
            axes.set_title(name.replace(", ", "\n"), fontsize=10)
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="x")
        panels[0].set_xscale("symlog", linthresh=1, linscale=0.6)
        panels[0].xaxis.set_major_locator(FixedLocator(_TICKS))
        panels[0].xaxis.set_major_formatter("{x:g}")
        panels[0].xaxis.set_minor_locator(NullLocator())
        panels[0].set_yticks(range(len(opponents)), opponents)
        panels[0].set_ylim(len(opponents) - 0.5, -0.5)
        figure.supxlabel(label, fontsize=10)
