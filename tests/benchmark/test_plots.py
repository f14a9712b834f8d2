import math
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.typing import NDArray

from dqmq_env.benchmark.leads import plot_leads
from dqmq_env.benchmark.plots import (
    CostPoint,
    plot_accuracy_against_cost,
    plot_bits_heat_map,
    plot_condition_bars,
)
from dqmq_env.benchmark.statistics import Interval

LAYERS = ("conv1", "layer1.0.conv1", "fc")
CONDITIONS = ("clean", "gaussian_noise/3")
BITS = np.array([[2.0, 8.0], [5.0, 3.5], [8.0, 2.0]])
POINTS = (
    *(CostPoint(f"{b} bits", (b / 8) ** 2, 0.1 * b, 0.1 * b - 0.02, 0.1 * b + 0.01, "uniform")
      for b in (8, 2, 3, 4, 6)),
    CostPoint("hybrid", 0.13, 0.45, 0.43, 0.46, "hybrid"),
    CostPoint("HAQ", 0.14, 0.44, 0.42, 0.45, "HAQ"),
)  # fmt: skip
ACCURACY = {
    "hybrid": {"clean": 0.9, "gaussian_noise/3": 0.8},
    "uniform": {"clean": 0.9, "gaussian_noise/3": 0.7},
}

LEADS = {
    "first, 5%": {"uniform": Interval(1.0, 0.5, 1.5), "HAQ": Interval(2.0, 1.0, 3.0)},
    "second, 7%": {"HAQ": Interval(-0.5, math.nan, math.nan), "PPO": Interval(0.1, -0.2, 0.4)},
}

Draw = Callable[[Path], None]


def heat_map(path: Path) -> None:
    plot_bits_heat_map(BITS, LAYERS, CONDITIONS, path, title="Bits")


def cost(path: Path) -> None:
    plot_accuracy_against_cost(POINTS, path, title="Accuracy against cost")


def conditions(path: Path) -> None:
    plot_condition_bars(ACCURACY, path, title="Accuracy under each condition")


def leads(path: Path) -> None:
    plot_leads(LEADS, path, title="Above the opponents", label="points")


every_plot = pytest.mark.parametrize("draw", [heat_map, cost, conditions, leads])


def pixels(path: Path) -> NDArray[np.float32]:
    return np.asarray(imread(path), np.float32)[..., :3]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


@every_plot
def test_a_picture_is_written_whole_with_its_folders(draw: Draw, tmp_path: Path) -> None:
    path = tmp_path / "reports" / "figures" / "plot.png"
    draw(path)
    picture = pixels(path)
    assert min(picture.shape[:2]) > 300
    assert 0.02 < (picture < 0.9).any(axis=2).mean() < 0.9
    assert [file.name for file in path.parent.iterdir()] == ["plot.png"]


@every_plot
def test_nothing_is_cut_off_at_the_edges(draw: Draw, tmp_path: Path) -> None:
    draw(tmp_path / "plot.png")
    picture = pixels(tmp_path / "plot.png")
    for edge in (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]):
        assert (edge == 1).all()


@every_plot
def test_files_are_reproducible_whatever_the_style(draw: Draw, tmp_path: Path) -> None:
    draw(tmp_path / "one.png")
    with matplotlib.rc_context({"figure.facecolor": "black", "font.size": 20}):
        draw(tmp_path / "two.png")
        assert matplotlib.rcParams["font.size"] == 20
    content = (tmp_path / "one.png").read_bytes()
    assert content == (tmp_path / "two.png").read_bytes()
    assert b"atplotlib" not in content


@every_plot
def test_a_drawing_that_fails_leaves_the_old_file(
    draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Figure, buffer: Any, **_: Any) -> None:
        buffer.write(b"half")
        raise RuntimeError("no more memory")

    old = tmp_path / "old.png"
    old.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", fail)
    for path in (old, tmp_path / "folder" / "new.png"):
        with pytest.raises(RuntimeError, match="no more memory"):
            draw(path)
    assert old.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [old]


@every_plot
def test_pyplot_keeps_no_figures(draw: Draw, tmp_path: Path) -> None:
    draw(tmp_path / "plot.png")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def cell_colours(path: Path, figure: Figure) -> NDArray[np.float32]:
    """Colour near the upper left corner of each cell, beside its number."""
    picture = pixels(path)
    transform = figure.axes[0].transData.transform
    colours = np.empty((*BITS.shape, 3), np.float32)
    for row, column in np.ndindex(*BITS.shape):
        x, y = transform((column - 0.35, row - 0.3)).astype(int)
        colours[row, column] = picture[len(picture) - 1 - y, x]
    return colours


def test_colours_of_the_heat_map_follow_the_bits(tmp_path: Path, drawn: list[Figure]) -> None:
    path = tmp_path / "plot.png"
    heat_map(path)
    colours = cell_colours(path, drawn[0])
    expected = matplotlib.colormaps["viridis_r"]((BITS - 2) / 6)[..., :3]
    np.testing.assert_allclose(colours, expected, atol=0.02)
    # Also told apart in grey: more bits, darker.
    brightness = colours.mean(axis=2).ravel()[np.argsort(BITS.ravel(), kind="stable")]
    assert (np.diff(brightness) <= 0).all()
    assert brightness[0] > brightness[-1] + 0.2


def test_the_heat_map_is_labelled(tmp_path: Path, drawn: list[Figure]) -> None:
    heat_map(tmp_path / "plot.png")
    axes, bar = drawn[0].axes
    assert texts(drawn[0]) == ["2.0", "8.0", "5.0", "3.5", "8.0", "2.0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(LAYERS)
    assert [label.get_text() for label in axes.get_xticklabels()] == list(CONDITIONS)
    assert axes.transData.transform((0, 0))[1] > axes.transData.transform((0, 2))[1]
    assert bar.get_ylabel() == "average bits"
    assert list(bar.get_yticks()) == [2, 3, 4, 5, 6, 7, 8]


def test_the_heat_map_makes_room_for_bits_above_eight(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_bits_heat_map(2 * BITS, LAYERS, CONDITIONS, tmp_path / "plot.png", title="Bits")
    assert drawn[0].axes[1].get_ylim() == (2, 16)


def extents(figure: Figure) -> list[Any]:
    return [text.get_window_extent() for text in figure.axes[0].texts]


def crowd(seed: int) -> list[CostPoint]:
    random = np.random.default_rng(seed)
    points = []
    for index in range(14):
        mean = random.uniform(0.7, 0.85)
        group = ("uniform", "hybrid", "HAQ")[index % 3]
        label = f"{group} number {index}"
        x = random.uniform(0.05, 0.6)
        points.append(CostPoint(label, x, mean, mean - 0.01, mean + 0.01, group))
    return points


@pytest.mark.parametrize("points", [POINTS, *map(crowd, range(4))])
def test_labels_of_points_lie_apart_and_inside(
    points: list[CostPoint], tmp_path: Path, drawn: list[Figure]
) -> None:
    plot_accuracy_against_cost(points, tmp_path / "plot.png", title="Accuracy against cost")
    axes = drawn[0].axes[0]
    assert sorted(texts(drawn[0])) == sorted(point.label for point in points)
    boxes = extents(drawn[0])
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    for point in points:
        x, y = axes.transData.transform((100 * point.cost, 100 * point.accuracy))
        assert not any(box.contains(x, y) for box in boxes)
    for box in boxes:
        assert axes.bbox.contains(box.x0, box.y0)
        assert axes.bbox.contains(box.x1, box.y1)


def test_points_at_one_place_still_get_labels_apart(tmp_path: Path, drawn: list[Figure]) -> None:
    points = [CostPoint(f"seed {seed}", 0.25, 0.8, 0.8, 0.8, "hybrid") for seed in range(6)]
    plot_accuracy_against_cost(points, tmp_path / "plot.png", title="One place")
    assert not any(one.overlaps(other) for one, other in combinations(extents(drawn[0]), 2))


def test_accuracy_against_cost_is_in_percent_on_a_log_scale(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    cost(tmp_path / "plot.png")
    axes = drawn[0].axes[0]
    assert axes.get_xscale() == "log"
    containers = {str(bars.get_label()): bars for bars in axes.containers}
    assert list(containers) == ["uniform", "hybrid", "HAQ"]
    line, _, (stems,) = containers["uniform"]
    np.testing.assert_allclose(line.get_xdata(), [6.25, 14.0625, 25, 56.25, 100])
    np.testing.assert_allclose(line.get_ydata(), [20, 30, 40, 60, 80])
    assert line.get_linestyle() == "-"
    np.testing.assert_allclose(stems.get_segments()[0][:, 1], [18, 21])
    assert containers["hybrid"][0].get_linestyle() == "None"
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["uniform", "hybrid", "HAQ"]


@pytest.mark.parametrize("costs", [[0.25], [0.25, 0.26], [0.06, 1.0], [0.001, 2.0]])
def test_the_cost_axis_has_a_few_round_ticks(
    costs: list[float], tmp_path: Path, drawn: list[Figure]
) -> None:
    points = [CostPoint("", x, 0.8, 0.7, 0.9, "uniform") for x in costs]
    plot_accuracy_against_cost(points, tmp_path / "plot.png", title="Ticks")
    axes = drawn[0].axes[0]
    low, high = axes.get_xlim()
    assert 3 <= sum(low <= tick <= high for tick in axes.get_xticks()) <= 12


def test_each_method_has_its_dots_look_and_row(tmp_path: Path, drawn: list[Figure]) -> None:
    conditions(tmp_path / "plot.png")
    axes = drawn[0].axes[0]
    hybrid, uniform = axes.lines
    np.testing.assert_allclose(np.asarray(hybrid.get_xdata(), float), [90, 80])
    np.testing.assert_allclose(np.asarray(uniform.get_xdata(), float), [90, 70])
    for line in (hybrid, uniform):
        assert list(np.round(np.asarray(line.get_ydata(), float))) == [0, 1]
        assert line.get_linestyle() == "None"
    assert (np.asarray(hybrid.get_ydata()) != np.asarray(uniform.get_ydata())).all()
    assert hybrid.get_color() != uniform.get_color()
    assert hybrid.get_marker() != uniform.get_marker()
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CONDITIONS)


def test_many_methods_all_look_different(tmp_path: Path, drawn: list[Figure]) -> None:
    methods = {f"method {index}": {"clean": 0.5} for index in range(30)}
    plot_condition_bars(methods, tmp_path / "plot.png", title="Many")
    looks = {(line.get_color(), line.get_marker()) for line in drawn[0].axes[0].lines}
    assert len(looks) == 30


@pytest.mark.parametrize("length", [5, 20, 35])
def test_the_names_of_methods_are_never_cut_off(
    length: int, tmp_path: Path, drawn: list[Figure]
) -> None:
    names = [f"{index} {'e' * length}" for index in range(6)]
    points = [CostPoint("", 0.25, 0.8, 0.8, 0.8, name) for name in names]
    plot_accuracy_against_cost(points, tmp_path / "cost.png", title="Long names")
    accuracy = {name: {"clean": 0.5} for name in names}
    plot_condition_bars(accuracy, tmp_path / "dots.png", title="Long names")
    for figure in drawn:
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == names
        box = legend.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (BITS.T, r"^bits: got shape \(2, 3\).* 3 layers .* 2 conditions"),
        (BITS[0], r"^bits: got shape \(2,\)"),
        (BITS * np.nan, "^bits: got NaN"),
    ],
)
def test_bits_of_another_shape_are_refused(
    bits: NDArray[np.float64], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        plot_bits_heat_map(bits, LAYERS, CONDITIONS, tmp_path / "plot.png", title="Bits")
    with pytest.raises(ValueError, match=r"^bits: got shape"):
        plot_bits_heat_map(np.empty((0, 0)), (), (), tmp_path / "plot.png", title="Bits")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0.0, 0.5, 0.4, 0.6), r"^cost: got 0\.0 for 'x'"),
        ((float("inf"), 0.5, 0.4, 0.6), "^cost: got inf"),
        ((0.5, 0.5, 0.6, 0.7), "^accuracy: got 0.5 in "),
        ((0.5, 50.0, 40.0, 60.0), "^accuracy: got 50.0"),
        ((0.5, float("nan"), 0.4, 0.6), "^accuracy: got nan"),
    ],
)
def test_a_point_out_of_range_is_refused(
    numbers: tuple[float, float, float, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CostPoint("x", *numbers, "hybrid")


def test_no_points_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^points: got none"):
        plot_accuracy_against_cost([], tmp_path / "plot.png", title="Nothing")


@pytest.mark.parametrize(
    ("accuracy", "message"),
    [
        ({}, "^accuracy: got no numbers"),
        ({"hybrid": {}}, "^accuracy: got no numbers"),
        (ACCURACY | {"HAQ": {"clean": 0.5}}, r"^accuracy: got conditions \['clean'\] for 'HAQ'"),
        ({"hybrid": {"clean": 90.0}}, r"^accuracy: got .*90\.0.* for 'hybrid'"),
    ],
)
def test_accuracies_that_do_not_match_are_refused(
    accuracy: dict[str, dict[str, float]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        plot_condition_bars(accuracy, tmp_path / "plot.png", title="Wrong")
    assert not list(tmp_path.iterdir())


def test_each_experiment_has_its_panel_and_each_opponent_its_row(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    leads(tmp_path / "leads.png")
    first, second = drawn[0].axes
    assert [axes.get_title() for axes in (first, second)] == ["first\n5%", "second\n7%"]
    names = [label.get_text() for label in first.get_yticklabels()]
    assert names == ["uniform", "HAQ", "PPO"]
    for axes, own in zip((first, second), LEADS.values(), strict=True):
        points, _, (bars,) = axes.containers[0]
        found = {names[int(y)]: x for x, y in points.get_xydata()}
        assert found == {name: lead.value for name, lead in own.items()}
        for (start, end), lead in zip(bars.get_segments(), own.values(), strict=True):
            known = not math.isnan(lead.low)
            ends = (lead.low, lead.high) if known else (lead.value, lead.value)
            assert (start[0], end[0]) == pytest.approx(ends)
    assert first.get_ylim()[0] > first.get_ylim()[1]  # the first is on top
    zero, small, large = (first.transData.transform((x, 0))[0] for x in (0.0, 0.5, 3.0))
    assert large - zero < 4 * (small - zero)  # beyond a point the axis is logarithmic


@pytest.mark.parametrize("wrong", [{}, {"first": {}}])
def test_no_leads_are_refused(wrong: dict[str, dict[str, Interval]], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leads"):
        plot_leads(wrong, tmp_path / "leads.png", title="", label="")
    assert not list(tmp_path.iterdir())
