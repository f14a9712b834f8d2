"""What the figures of the page have in common."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dqmq_env.benchmark.picture import GREY, log_ticks

Figure = dict[str, Any]
"""``data`` and ``layout``, or a part of them, as plotly.js takes them."""
Looks = Mapping[str, tuple[str, str]]
"""Agent to its colour and marker; see :func:`~dqmq_env.benchmark.picture.looks`."""

PAPER: Final = "#ffffff"
SIGNS: Final = {
    "s": ("square", "\u25a0"),
    "D": ("diamond", "\u25c6"),
    "^": ("triangle-up", "\u25b2"),
    "v": ("triangle-down", "\u25bc"),
    "P": ("cross", "\u271a"),
    "X": ("x", "\u2716"),
    "p": ("pentagon", "\u2b1f"),
}
"""matplotlib's markers by the names of plotly.js, and as text."""
TOP, BOTTOM = 70, 60
"""Margins of a figure, in pixels."""


@dataclass(frozen=True)
class Plot:
    """A place in the page for a figure, or for one of several that a reader chooses from.

    Attributes:
        name: of the place, unlike for each.
        label: what is seen, for those who do not.
        choices: what is chosen, and the texts to choose from; may be empty.
        figures: a text of each choice to the figure; not all combinations need one.
    """

    name: str
    label: str
    choices: tuple[tuple[str, tuple[str, ...]], ...]
    figures: Mapping[tuple[str, ...], Figure]


def level(name: str, span: Sequence[float], value: float, dash: str) -> Figure:
    """A grey line across the plot.

    Args:
        name: in the legend.
        span: where it begins and ends.
        value: its height.
        dash: as plotly.js names it.
    """
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(span),
        "y": [round(value, 6)] * 2,
        "line": {"color": GREY, "width": 1.5, "dash": dash},
        "hovertemplate": f"{name}: %{{y:.4f}}<extra></extra>",
    }


def marker_of(look: tuple[str, str]) -> Figure:
    """What marks an agent: lines of the same colour differ in it."""
    colour, marker = look
    symbol, _ = SIGNS[marker]
    return {"color": colour, "symbol": symbol, "size": 8, "line": {"color": PAPER, "width": 0.7}}


def log_axis(span: Sequence[float], title: str) -> Figure:
    """A logarithmic axis with round ticks and room at both ends."""
    least, most = min(span), max(span)
    margin = max(1.1, (most / least) ** 0.05)
    least, most = least / margin, most * margin
    ticks = [tick for tick in log_ticks(least, most) if least <= tick <= most]
    return {
        "title": {"text": title},
        "type": "log",
        "range": [math.log10(least), math.log10(most)],
        "tickvals": ticks,
        "ticktext": [f"{tick:,g}" for tick in ticks],
    }


def layout(x_axis: Figure, y_axis: Figure, height: int) -> Figure:
    """Axes, and a legend above them.

    Args:
        x_axis: what is special about it.
        y_axis: likewise.
        height: of the whole figure, in pixels.
    """
    return {
        "xaxis": x_axis,
        "yaxis": y_axis,
        "height": height,
        "margin": {"l": 70, "r": 20, "t": TOP, "b": BOTTOM},
        "hovermode": "closest",
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": round(1 + 24 / (height - TOP - BOTTOM), 6),
            "yanchor": "bottom",
        },
    }


def numbers(values: NDArray[Any]) -> Any:
    """As JSON can hold them: six digits after the point, and nothing for what is not known."""
    rounded = np.round(np.asarray(values, np.float64), 6)
    known = rounded.astype(object)
    known[np.isnan(rounded)] = None
    return known.tolist()
