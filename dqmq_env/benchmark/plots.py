"""The report's pictures: bits by layer and condition, accuracy against cost, and by condition."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path as Path2D
from matplotlib.transforms import Bbox, BboxBase
from numpy.typing import NDArray

from dqmq_env.benchmark.picture import GREY, cost_axis, looks, picture

BASELINE_GROUP: Final = "uniform"

# Of a label: its distances from its point in typographic points, and the directions it may go.
_LABEL_GAPS: Final = (7, 12, 20, 30, 45, 65, 90, 120)
_LABEL_SIDES: Final = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, -1), (-1, 1), (1, 1), (-1, -1))


@dataclass(frozen=True)
class CostPoint:
    """One method, or one assignment, in a plot of accuracy against cost.

    Attributes:
        label: what is written beside it.
        cost: as a fraction of the network's at 8 bits, above 0.
        accuracy: its mean accuracy, in [0, 1].
        low: lower end of the 95% interval of ``accuracy``.
        high: upper end of it.
        group: the points that share a colour and an entry of the legend, such as ``hybrid``; the
            points of ``uniform`` are joined by a line.

    Raises:
        ValueError: a number is out of its range; the message names it.
    """

    label: str
    cost: float
    accuracy: float
    low: float
    high: float
    group: str

    def __post_init__(self) -> None:
        if not 0 < self.cost < math.inf:
            raise ValueError(f"cost: got {self.cost} for {self.label!r}, must be above 0")
        if not 0 <= self.low <= self.accuracy <= self.high <= 1:
            raise ValueError(
                f"accuracy: got {self.accuracy} in [{self.low}, {self.high}] for {self.label!r}, "
                "must be in its interval, and that in [0, 1]"
            )


def plot_bits_heat_map(
    bits: NDArray[np.floating],
    layers: Sequence[str],
    conditions: Sequence[str],
    path: str | Path,
    *,
    title: str,
) -> None:
    """Write a heat map of the average bits of each layer under each condition, as PNG.

    Args:
        bits: average bits, shape (len(layers), len(conditions)).
        layers: names in forward order; the first is on top.
        conditions: their names, from left to right.
        path: file to write; folders that are missing are made.
        title: what the picture shows, in plain words.

    Raises:
        ValueError: ``bits`` has another shape, is empty or not finite.
        OSError: the file cannot be written.
    """
    values = np.asarray(bits, np.float64)
    if values.shape != (len(layers), len(conditions)) or values.size == 0:
        raise ValueError(
            f"bits: got shape {values.shape}, must be one row for each of {len(layers)} layers "
            f"and one column for each of {len(conditions)} conditions, at least one of both"
        )
    if not np.isfinite(values).all():
        raise ValueError("bits: got NaN or infinity, must be finite")
    low, high = min(2.0, values.min()), max(8.0, values.max())
    height = max(3.6, 2.0 + 0.29 * len(layers))
    with picture(path, title, 3.2 + 0.62 * len(conditions), height) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(values, cmap="viridis_r", vmin=low, vmax=high, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            ink = "white" if value > (low + high) / 2 else "black"
            axes.text(column, row, f"{value:.1f}", color=ink, size=9, ha="center", va="center")
        axes.set_xticks(range(len(conditions)), conditions, rotation=35, ha="right")
        axes.set_yticks(range(len(layers)), layers)
        axes.set_xticks(np.arange(1, len(conditions)) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, len(layers)) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="condition", ylabel="layer, in forward order")
        bar = figure.colorbar(image, ax=axes, pad=0.03, aspect=30, label="average bits")
        bar.set_ticks(list(range(math.ceil(low), math.floor(high) + 1)))
        bar.outline.set_visible(False)


def plot_accuracy_against_cost(
    points: Sequence[CostPoint], path: str | Path, *, title: str, cost: str = "BOPs"
) -> None:
    """Write a plot of accuracy against a cost, with 95% intervals, as PNG.

    Args:
        points: at least one; groups get their colours in the order in which they come.
        path: file to write; folders that are missing are made.
        title: what the picture shows, in plain words.
        cost: its name.

    Raises:
        ValueError: there are no points.
        OSError: the file cannot be written.
    """
    if not points:
        raise ValueError("points: got none, must be at least one")
    with picture(path, title, 7.6, 5.4) as figure:
        axes = figure.add_subplot()
        axes.margins(y=0.12)
        for group, (colour, marker) in looks((p.group for p in points), BASELINE_GROUP).items():
            members = sorted((p for p in points if p.group == group), key=lambda p: p.cost)
            costs, accuracy, low, high = np.array(
                [(100 * p.cost, 100 * p.accuracy, 100 * p.low, 100 * p.high) for p in members]
            ).T
            axes.errorbar(
                costs,
                accuracy,
                (accuracy - low, high - accuracy),
                color=colour,
                marker=marker,
                linestyle="-" if group == BASELINE_GROUP else "none",
                label=group,
            )
        cost_axis(axes, (point.cost for point in points), cost)
        axes.grid()
        axes.set_ylabel("accuracy (%), with 95% interval")
        _legend(figure)
        _place_labels(figure, axes, points)


def plot_condition_bars(
    accuracy: Mapping[str, Mapping[str, float]], path: str | Path, *, title: str
) -> None:
    """Write a dot plot of the accuracy of several methods under each condition, as PNG.

    Args:
        accuracy: method to condition to accuracy in [0, 1]; all methods have the conditions of
            the first, whose order the picture keeps from top to bottom.
        path: file to write; folders that are missing are made.
        title: what the picture shows, in plain words.

    Raises:
        ValueError: ``accuracy`` is empty, out of range, or has other conditions for a method.
        OSError: the file cannot be written.
    """
    methods = list(accuracy)
    conditions = list(accuracy[methods[0]]) if methods else []
    if not conditions:
        raise ValueError("accuracy: got no numbers, must be at least one method and condition")
    for method, of in accuracy.items():
        if set(of) != set(conditions):
            raise ValueError(
                f"accuracy: got conditions {sorted(of)} for {method!r}, must be those of "
                f"{methods[0]!r}: {sorted(conditions)}"
            )
        if not all(0 <= value <= 1 for value in of.values()):
            raise ValueError(f"accuracy: got {dict(of)} for {method!r}, must be from 0 to 1")
    height = 1.7 + len(conditions) * max(0.36, 0.12 * len(methods))
    with picture(path, title, 7.6, height) as figure:
        axes = figure.add_subplot()
        rows = np.arange(len(conditions))
        for row in rows[::2]:
            axes.axhspan(row - 0.5, row + 0.5, color="#f3f5f7", linewidth=0, zorder=0)
        # The methods of a condition lie a little apart, so that equal ones do not hide each other.
        shifts = np.linspace(-0.28, 0.28, len(methods)) if len(methods) > 1 else [0.0]
        styles = looks(methods, BASELINE_GROUP).values()
        for method, (colour, marker), shift in zip(methods, styles, shifts, strict=True):
            percent = [100 * accuracy[method][condition] for condition in conditions]
            axes.plot(percent, rows + shift, marker, color=colour, label=method)
        axes.set_yticks(rows, conditions)
        axes.set_ylim(len(conditions) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set(xlabel="accuracy (%)", ylabel="condition")
        _legend(figure)


def _legend(figure: Figure) -> None:
    """Name the groups below, in as many columns, four at most, as the picture is wide for."""
    for columns in (4, 3, 2, 1):
        legend = figure.legend(loc="outside lower center", ncols=columns)
        figure.draw_without_rendering()
        if legend.get_window_extent().width <= figure.bbox.width:
            break
        if columns > 1:
            legend.remove()


def _place_labels(figure: Figure, axes: Axes, points: Sequence[CostPoint]) -> None:
    """Write each point's label at the nearest place around it that hides nothing."""
    figure.draw_without_rendering()  # settles where the axes lie
    transform, unit = axes.transData, figure.dpi / 72
    ordered = sorted(points, key=lambda point: point.cost)
    places = transform.transform([(100 * p.cost, 100 * p.accuracy) for p in ordered])
    solid = [Bbox([place - 5 * unit, place + 5 * unit]) for place in places]
    thin = []
    for point in ordered:
        ends = transform.transform([(100 * point.cost, 100 * y) for y in (point.low, point.high)])
        thin.append(Bbox(ends + unit * np.array([[-3, -1], [3, 1]])))
    joined = [place for p, place in zip(ordered, places, strict=True) if p.group == BASELINE_GROUP]
    for start, end in pairwise(joined):
        thin += [Bbox(pair) for pair in pairwise(np.linspace(start, end, 40))]

    for point, place in zip(ordered, places, strict=True):
        label = axes.text(0, 0, point.label, size=9, ha="center", va="center", in_layout=False)
        half = np.array(label.get_window_extent().size) / 2 + unit
        sides = [np.array(s) * (half + unit * gap) for gap in _LABEL_GAPS for s in _LABEL_SIDES]
        boxes = [Bbox([place + side - half, place + side + half]) for side in sides]
        hidden = [_hidden(box, place, axes.bbox, solid, thin) for box in boxes]
        best = boxes[int(np.argmin(hidden))]
        solid.append(best)
        label.set(position=transform.inverted().transform(best.corners().mean(axis=0)))
        near = np.clip(place, best.min, best.max)
        if math.dist(place, near) > 10 * unit:
            line = transform.inverted().transform([place, near])
            axes.plot(*line.T, color=GREY, linewidth=0.7, zorder=1)


def _hidden(
    box: Bbox, place: NDArray[np.float64], bounds: BboxBase, solid: list[Bbox], thin: list[Bbox]
) -> int:
    """How much a label in ``box``, with a line to its point at ``place``, hides or crosses."""
    outside = not (bounds.contains(*box.min) and bounds.contains(*box.max))
    line = Path2D([place, box.corners().mean(axis=0)])
    crossed = sum(10 for other in solid if line.intersects_bbox(other))
    return 10_000 * outside + 100 * box.count_overlaps(solid) + crossed + box.count_overlaps(thin)
