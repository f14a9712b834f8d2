"""The figure of accuracy against cost: a panel for each condition."""

import math
from collections.abc import Sequence
from html import escape

from dqmq_env.benchmark.picture import GREY
from dqmq_env.benchmark.report.figures import (
    BOTTOM,
    TOP,
    Figure,
    Looks,
    layout,
    level,
    log_axis,
    marker_of,
)
from dqmq_env.benchmark.report.panels import Panel, Point, cost_span

_COLUMNS = 3
_PANEL, _ROOM = 190, 66  # height of a panel, and the gap above it, in pixels
_WIDE_PANEL = 340  # of the first panel with what is written below it


def accuracy_figure(panels: Sequence[Panel], looks: Looks, cost: str, split: str) -> Figure:
    """Accuracy against cost, a panel for each condition, with the non-dominated line.

    Args:
        panels: over the mixture first.
        looks: of each agent.
        cost: what it is called.
        split: what the accuracy is of.
    """
    rows = math.ceil((len(panels) - 1) / _COLUMNS)
    inner = _WIDE_PANEL + rows * (_PANEL + _ROOM)
    whole = layout({}, {}, inner + TOP + BOTTOM)
    whole["annotations"] = []
    data: list[Figure] = []
    span = cost_span(panels)
    for index, panel in enumerate(panels):
        x_domain, y_domain = _domains(index, inner)
        tail = str(index + 1) if index else ""
        last = index == 0 or index + _COLUMNS >= len(panels)
        x_axis = log_axis(span, f"{cost}, % of 8 bits (log scale)" if last else "")
        outer = index == 0 or index % _COLUMNS == 1
        y_axis = {"title": {"text": f"{split}, %" if outer else ""}}
        whole[f"xaxis{tail}"] = x_axis | {"domain": x_domain, "anchor": f"y{tail}"}
        whole[f"yaxis{tail}"] = y_axis | {"domain": y_domain, "anchor": f"x{tail}"}
        whole["annotations"].append(_heading(panel.condition, x_domain[0], y_domain[1]))
        data += _panel_traces(panel, looks, tail, span, first=index == 0)
    return {"data": data, "layout": whole}


def _domains(index: int, inner: int) -> tuple[list[float], list[float]]:
    """Where a panel lies: the first across the page, the others below it in rows.

    Args:
        index: of the panel.
        inner: height of all of them, in pixels.
    """
    if index == 0:
        return [0.0, 1.0], [round(1 - (_WIDE_PANEL - _ROOM / 2) / inner, 6), 1.0]
    row, column = divmod(index - 1, _COLUMNS)
    top = 1 - (_WIDE_PANEL + _ROOM + row * (_PANEL + _ROOM)) / inner
    width, gap = 0.29, (1 - 0.29 * _COLUMNS) / (_COLUMNS - 1)
    left = column * (width + gap)
    ends = [left, left + width], [max(0.0, top - _PANEL / inner), top]
    return [round(end, 6) for end in ends[0]], [round(end, 6) for end in ends[1]]


def _heading(text: str, left: float, top: float) -> Figure:
    return {
        "x": left,
        "y": top,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "bottom",
        "text": f"<b>{escape(text)}</b>",
        "showarrow": False,
    }


def _panel_traces(
    panel: Panel, looks: Looks, tail: str, span: Sequence[float], first: bool
) -> list[Figure]:
    axes = {"xaxis": f"x{tail}", "yaxis": f"y{tail}"}
    line = {"color": GREY, "width": 1.5, "shape": "hv"}
    traces: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best at each cost",
            "legendgroup": "front",
            "showlegend": first,
            "hoverinfo": "skip",
            "line": line,
            **_places(panel.front),
            **axes,
        },
    ]
    if panel.uniform is not None:
        traces += _uniform_traces(panel.uniform, span, axes, first)
    for agent, look in looks.items():
        points = [point for point in panel.points if point.agent == agent]
        if points:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": escape(agent),
                    "legendgroup": agent,
                    "showlegend": first,
                    "marker": marker_of(look) | {"opacity": 0.85},
                    "customdata": [point.seed for point in points],
                    "hovertemplate": f"{escape(agent)}, seed %{{customdata}}: %{{y:.2f}}% at "
                    "%{x:.1f}%<extra></extra>",
                    **_places(points),
                    **axes,
                }
            )
    return traces


def _uniform_traces(
    uniform: Point, span: Sequence[float], axes: Figure, first: bool
) -> list[Figure]:
    """A line at the accuracy of uniform bits, and a star at their cost."""
    own = axes | {"legendgroup": "uniform", "showlegend": first}
    hover = f"uniform bits: %{{y:.2f}}% at {100 * uniform.cost:.1f}%<extra></extra>"
    line = level("uniform bits", [span[0] / 10, span[1] * 10], 100 * uniform.accuracy, "dash")
    star: Figure = {
        "type": "scatter",
        "mode": "markers",
        "name": "uniform bits",
        "marker": {"symbol": "star", "size": 12, "color": GREY},
        **_places([uniform]),
    }
    changes = {"hovertemplate": hover}
    return [line | own | changes, star | own | changes | {"showlegend": False}]


def _places(points: Sequence[Point]) -> Figure:
    return {
        "x": [round(100 * point.cost, 6) for point in points],
        "y": [round(100 * point.accuracy, 6) for point in points],
    }
