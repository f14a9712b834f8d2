"""The page's figures of learning curves, profiles and bits."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dqmq_env.benchmark.picture import GREY
from dqmq_env.benchmark.report.figures import (
    Figure,
    Looks,
    layout,
    level,
    log_axis,
    marker_of,
    numbers,
)
from dqmq_env.benchmark.report.groups import NORMALISED, Group
from dqmq_env.benchmark.report.summary import FLOOR, BitsMap, LearningCurve, distance
from dqmq_env.benchmark.statistics import Band, Numbers


def share_figure(curves: Mapping[str, LearningCurve], looks: Looks, uniform: float) -> Figure:
    """Share of the optimum's reward of the best tried so far against evaluations, with bands.

    Args:
        curves: of each agent.
        looks: of each agent.
        uniform: what uniform bits have.
    """
    levels = {"uniform bits": (uniform, "dash"), "optimum": (1.0, "dot")}
    y_axis = {"title": {"text": "share of the optimum's reward"}, "tickformat": ".2~%"}
    return _learning_figure(curves, looks, levels, y_axis, ".2%")


def distance_figure(curves: Mapping[str, LearningCurve], looks: Looks, uniform: float) -> Figure:
    """The same as what is lacking, on a logarithmic axis that shows the last steps.

    Args:
        curves: of each agent.
        looks: of each agent.
        uniform: what uniform bits have.
    """
    lacking = {agent: distance(own) for agent, own in curves.items()}
    levels = {"uniform bits": (max(1 - uniform, FLOOR), "dash")}
    title = "below the optimum's reward (log scale)"
    bands = [own.band for own in lacking.values()]
    ends = np.concatenate([part for own in bands for part in (own.value, own.low, own.high)])
    y_axis = log_axis(ends[~np.isnan(ends)].tolist(), title)
    y_axis["ticktext"] = [f"{100 * tick:g}%" for tick in y_axis["tickvals"]]
    return _learning_figure(lacking, looks, levels, y_axis, ".2%")


def reward_figure(curves: Mapping[str, LearningCurve], looks: Looks, uniform: float) -> Figure:
    """Reward of the best tried so far against evaluations, where no optimum is known.

    Args:
        curves: of each agent.
        looks: of each agent.
        uniform: what uniform bits have.
    """
    y_axis = {"title": {"text": "reward"}, "tickformat": ".3~f"}
    return _learning_figure(curves, looks, {"uniform bits": (uniform, "dash")}, y_axis, ".4f")


def _learning_figure(
    curves: Mapping[str, LearningCurve],
    looks: Looks,
    levels: Mapping[str, tuple[float, str]],
    y_axis: Figure,
    form: str,
) -> Figure:
    ends = [int(curve.evaluations[place]) for curve in curves.values() for place in (0, -1)]
    span = [min(ends), max(ends)]
    data = [level(name, span, value, dash) for name, (value, dash) in levels.items()]
    for agent, curve in curves.items():
        hover = f"{escape(agent)}: %{{y:{form}}} [%{{customdata[0]:{form}}}, "
        hover += f"%{{customdata[1]:{form}}}]<br>after %{{x:,}} evaluations<extra></extra>"
        data += _banded(agent, curve.evaluations, curve.band, looks[agent], hover)
    whole = layout(log_axis(span, "evaluations (log scale)"), y_axis, height=440)
    return {"data": data, "layout": whole}


def profile_figure(
    group: Group, places: Numbers, profiles: Mapping[str, Band], looks: Looks
) -> Figure:
    """Share of runs above each score, with bands.

    Args:
        group: the runs.
        places: the scores.
        profiles: of each agent.
        looks: of each agent.
    """
    data = []
    for agent, own in profiles.items():
        hover = f"{escape(agent)}: %{{y:.0%}} of runs [%{{customdata[0]:.0%}}, "
        hover += "%{customdata[1]:.0%}]<br>score above %{x:.3g}<extra></extra>"
        data += _banded(agent, places, own, looks[agent], hover)
    x_axis = {"title": {"text": f"{group.scale.name}, higher is better"}}
    y_axis = {"title": {"text": "share of runs above it"}, "tickformat": ".0%"}
    whole = layout(x_axis, y_axis | {"range": [-0.02, 1.02]}, height=420)
    marks = (
        ((0, "uniform bits"), (1, "optimum")) if group.scale is NORMALISED else ((0, "uniform"),)
    )
    whole["shapes"] = [
        {
            "type": "line",
            "x0": place,
            "x1": place,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": {"color": GREY, "width": 1, "dash": "dot"},
        }
        for place, _ in marks
    ]
    whole["annotations"] = [
        {
            "x": place,
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "text": text,
            "showarrow": False,
            "font": {"size": 11},
        }
        for place, text in marks
    ]
    return {"data": data, "layout": whole}


def bits_figure(own: BitsMap, what: str) -> Figure:
    """Heat map of the bits of each layer under each condition.

    Args:
        own: the bits.
        what: they are of.
    """
    trace = {
        "type": "heatmap",
        "z": numbers(own.bits),
        "x": [escape(text) for text in own.conditions],
        "y": [escape(text) for text in own.layers],
        "zmin": min(2.0, float(own.bits.min())),
        "zmax": max(8.0, float(own.bits.max())),
        "colorscale": "Viridis",
        "reversescale": True,
        "xgap": 2,
        "ygap": 2,
        "texttemplate": "%{z:.1f}",
        "hovertemplate": "%{y} under %{x}: %{z:.2f} bits<extra></extra>",
        "colorbar": {"title": {"text": what}, "thickness": 14, "outlinewidth": 0},
    }
    x_axis = {
        "title": {"text": "condition"},
        "showgrid": False,
        "tickangle": -35,
        "type": "category",
    }
    y_axis = {
        "title": {"text": "layer, in forward order"},
        "autorange": "reversed",
        "showgrid": False,
        "type": "category",
    }
    return {"data": [trace], "layout": layout(x_axis, y_axis, 190 + 28 * len(own.layers))}


def _banded(
    agent: str,
    places: NDArray[Any],
    own: Band,
    look: tuple[str, str],
    hover: str,
) -> list[Figure]:
    """A line between the ends of its intervals."""
    colour = look[0]
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    common: Figure = {
        "type": "scatter",
        "mode": "lines",
        "x": numbers(places),
        "legendgroup": agent,
    }
    edge = {"width": 0, "color": colour}
    hidden = common | {
        "showlegend": False,
        "hoverinfo": "skip",
        "line": edge,
        "name": escape(agent),
    }
    return [
        hidden | {"y": numbers(own.low)},
        hidden
        | {
            "y": numbers(own.high),
            "fill": "tonexty",
            "fillcolor": f"rgba({red},{green},{blue},0.18)",
        },
        common
        | {
            "y": numbers(own.value),
            "name": escape(agent),
            "line": edge | {"width": 2.5},
            "mode": "lines+markers",
            "marker": marker_of(look) | {"maxdisplayed": 9},
            "customdata": numbers(np.stack([own.low, own.high], 1)),
            "hovertemplate": hover,
        },
    ]
