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
from matplotlib.text import Text
from numpy.typing import NDArray

from dqmq_env.benchmark.curves import (
    Curve,
    Gain,
    RegretCurve,
    plot_fronts,
    plot_regret,
    plot_value,
)

BOPS_LABEL = "BOPs (% of the network at 8 bits, log scale)"
FRONTS = {
    "gaussian_noise/3": [(0.08, 0.55), (0.2, 0.65), (0.6, 0.7)],
    "clean": [(0.08, 0.6), (0.3, 0.8), (1.0, 0.9)],
    "jpeg/3": [(0.09, 0.58), (1.0, 0.895)],
}
BUDGETS = (0.1, 0.2, 0.4)
CURVES = {
    "single": Curve(BUDGETS, (0.6, 0.7, 0.8)),
    "blind": Curve(BUDGETS, (0.61, 0.72, 0.8)),
    "rule": Curve(BUDGETS, (0.62, 0.75, 0.8)),
}
GAINS = {"rule": Gain(BUDGETS, (1, 3, 0), (0.5, 2, -0.5), (1.5, 4, 0.5))}
REGRETS = {
    "random": RegretCurve((1, 10, 100), (1.0, 0.5, 0.2), (0.8, 0.4, 0.1), (1.5, 0.6, 0.3)),
    "hybrid": RegretCurve((2, 20, 200), (0.9, 0.1, 0.0), (0.7, 0.0, 0.0), (1.0, 0.2, 0.005)),
}

Draw = Callable[[Path], None]


def fronts(path: Path) -> None:
    plot_fronts(FRONTS, path, title="Fronts")


def value(path: Path) -> None:
    plot_value(CURVES, GAINS, path, title="Value", reference="blind")


def regret(path: Path) -> None:
    plot_regret(REGRETS, path, title="Regret")


every_plot = pytest.mark.parametrize("draw", [fronts, value, regret])


def data(line: Any) -> NDArray[np.float64]:
    return np.asarray(line.get_xydata(), np.float64)


def lines(figure: Figure, panel: int = 0) -> dict[str, Any]:
    """Named lines of one panel."""
    return {
        str(line.get_label()): line
        for line in figure.axes[panel].lines
        if not str(line.get_label()).startswith("_")
    }


def extents(labels: list[Any]) -> list[Any]:
    """Where the words lie, without the lines that lead to them."""
    return [Text.get_window_extent(label) for label in labels]


@every_plot
def test_a_png_is_written_with_its_folders(draw: Draw, tmp_path: Path) -> None:
    path = tmp_path / "reports" / "figures" / "plot.png"
    draw(path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    picture = np.asarray(imread(path), np.float32)[..., :3]
    assert min(picture.shape[:2]) > 300
    assert 0.02 < (picture < 0.9).any(axis=2).mean() < 0.9
    for edge in (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]):
        assert (edge == 1).all()
    assert [file.name for file in path.parent.iterdir()] == ["plot.png"]


@every_plot
def test_files_are_reproducible_whatever_the_style(draw: Draw, tmp_path: Path) -> None:
    draw(tmp_path / "one.png")
    with matplotlib.rc_context({"figure.facecolor": "black", "font.size": 20, "axes.grid": True}):
        draw(tmp_path / "two.png")
        assert matplotlib.rcParams["font.size"] == 20
    draw(tmp_path / "three.png")
    contents = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(contents) == 1
    assert b"atplotlib" not in contents.pop()


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


def test_fronts_are_in_percent_on_a_log_scale(tmp_path: Path, drawn: list[Figure]) -> None:
    fronts(tmp_path / "plot.png")
    (axes,) = drawn[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == (BOPS_LABEL, "accuracy (%)")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    by_name = lines(drawn[0])
    assert list(by_name) == list(FRONTS)
    for condition, points in FRONTS.items():
        np.testing.assert_allclose(data(by_name[condition]), 100 * np.array(points))
    assert len({line.get_color() for line in by_name.values()}) == 3
    assert len({line.get_marker() for line in by_name.values()}) == 3


def crowd(seed: int, count: int) -> dict[str, list[tuple[float, float]]]:
    """Fronts that end close together, some at one point."""
    random = np.random.default_rng(seed)
    ends = [(random.uniform(0.5, 1.0), random.uniform(0.8, 0.9)) for _ in range(count - 2)]
    return {
        f"gaussian_noise/{index}": [(0.08, random.uniform(0.4, 0.6)), end]
        for index, end in enumerate([*ends, ends[0], ends[0]])
    }


@pytest.mark.parametrize(
    "points", [FRONTS, {"clean": [(0.5, 0.5)]}, crowd(0, 9), crowd(1, 9), crowd(2, 30)]
)
def test_labels_of_fronts_lie_apart_and_right_of_their_ends(
    points: dict[str, list[tuple[float, float]]], tmp_path: Path, drawn: list[Figure]
) -> None:
    plot_fronts(points, tmp_path / "plot.png", title="Fronts")
    (axes,) = drawn[0].axes
    assert not drawn[0].legends
    labels: list[Any] = list(axes.texts)
    assert {label.get_text(): label.arrow_patch.get_edgecolor() for label in labels} == {
        name: matplotlib.colors.to_rgba(line.get_color()) for name, line in lines(drawn[0]).items()
    }
    for label in labels:
        np.testing.assert_allclose(label.xy, 100 * np.array(points[label.get_text()][-1]))
    boxes = extents(labels)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    for box in boxes:
        assert box.x0 > axes.bbox.x1
        assert axes.bbox.y0 <= box.y0
        assert box.y1 <= axes.bbox.y1
    # From the bottom up, labels come as the curves end.
    ends = [label.xy[1] for label in sorted(labels, key=lambda label: label.xyann[1])]
    assert ends == sorted(ends)


def test_a_label_with_room_is_level_with_its_end(tmp_path: Path, drawn: list[Figure]) -> None:
    fronts(tmp_path / "plot.png")
    (axes,) = drawn[0].axes
    labels: list[Any] = [label for label in axes.texts if label.get_text() == "gaussian_noise/3"]
    (box,) = extents(labels)
    _, level = axes.transData.transform((60, 70))
    assert abs((box.y0 + box.y1) / 2 - level) < 3


def test_value_shows_curves_above_and_gains_below(tmp_path: Path, drawn: list[Figure]) -> None:
    value(tmp_path / "plot.png")
    upper, lower = drawn[0].axes
    assert upper.get_ylabel() == "accuracy (%)"
    assert lower.get_ylabel() == "gain over blind\n(points, with 95% interval)"
    assert (upper.get_xlabel(), lower.get_xlabel()) == ("", BOPS_LABEL)
    assert upper.get_xscale() == lower.get_xscale() == "log"
    assert upper.get_xlim() == lower.get_xlim()
    assert list(upper.get_xticks()) == list(lower.get_xticks())
    by_name = lines(drawn[0])
    assert list(by_name) == list(CURVES)
    np.testing.assert_allclose(data(by_name["rule"]), [(10, 62), (20, 75), (40, 80)])
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == list(CURVES)

    zero, gain = lower.lines
    assert list(np.asarray(zero.get_ydata())) == [0, 0]
    np.testing.assert_allclose(data(gain), [(10, 1), (20, 3), (40, 0)])
    assert gain.get_color() == by_name["rule"].get_color()
    assert gain.get_marker() == by_name["rule"].get_marker()
    assert zero.get_color() == by_name["blind"].get_color()
    (band,) = lower.collections
    corners = {
        tuple(corner)
        for corner in np.round(np.asarray(band.get_paths()[0].vertices, np.float64), 9)
    }
    assert corners == {(10, 0.5), (20, 2), (40, -0.5), (10, 1.5), (20, 4), (40, 0.5)}


def test_regret_is_a_median_in_a_band_on_log_scales(tmp_path: Path, drawn: list[Figure]) -> None:
    regret(tmp_path / "plot.png")
    (axes,) = drawn[0].axes
    assert axes.get_xlabel() == "evaluations (log scale)"
    assert axes.get_ylabel() == "regret (0 = optimum, 1 = mean of random assignments)"
    assert axes.get_xscale() == axes.get_yscale() == "log"
    by_name = lines(drawn[0])
    np.testing.assert_allclose(data(by_name["random"]), [(1, 1), (10, 0.5), (100, 0.2)])
    np.testing.assert_allclose(data(by_name["hybrid"]), [(2, 0.9), (20, 0.1), (200, 1e-3)])
    _, band = axes.collections
    corners = {
        tuple(corner)
        for corner in np.round(np.asarray(band.get_paths()[0].vertices, np.float64), 9)
    }
    assert corners == {(2, 0.7), (20, 1e-3), (200, 1e-3), (2, 1.0), (20, 0.2), (200, 0.005)}
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == list(REGRETS)


@pytest.mark.parametrize("floor", [1e-1, 1e-3, 1e-6])
def test_zero_regret_is_drawn_at_a_floor_that_is_named(
    floor: float, tmp_path: Path, drawn: list[Figure]
) -> None:
    zero = {"greedy": RegretCurve((1, 9), (0.5, 0), (0, 0), (0.6, 0))}
    plot_regret(zero, tmp_path / "plot.png", title="Zero", floor=floor)
    (axes,) = drawn[0].axes
    assert axes.get_ylim()[0] < floor < 1 < axes.get_ylim()[1]
    assert np.asarray(axes.lines[0].get_ydata())[-1] == floor
    texts = [text.get_text() for text in axes.get_yticklabels()]
    words = dict(zip(axes.get_yticks(), texts, strict=True))
    assert words[floor] == f"≤ {floor:g}"
    assert [word for word in words.values() if not word[0].isdigit()] == [words[floor]]
    boxes = [text.get_window_extent() for text in axes.get_yticklabels()]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_regret_above_the_floor_has_plain_ticks(tmp_path: Path, drawn: list[Figure]) -> None:
    high = {"random": RegretCurve((1, 1e6), (1, 0.3), (0.9, 0.2), (2, 0.4))}
    plot_regret(high, tmp_path / "plot.png", title="High")
    (axes,) = drawn[0].axes
    low, top = axes.get_ylim()
    assert 0.1 < low < 0.2 < 2 < top
    texts = [text.get_text() for text in axes.get_yticklabels()]
    assert "1" in texts
    np.testing.assert_allclose([float(text) for text in texts], axes.get_yticks())
    start, end = axes.get_xlim()
    assert 3 <= sum(start <= tick <= end for tick in axes.get_xticks()) <= 12


def test_curves_of_one_point_are_seen(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_regret(
        {"one": RegretCurve([50], [0.1], [0.05], [0.2])}, tmp_path / "plot.png", title="One"
    )
    (axes,) = drawn[0].axes
    assert axes.lines[0].get_markevery() is None
    (stroke,) = axes.collections
    vertices = np.asarray(stroke.get_paths()[0].vertices, np.float64)
    np.testing.assert_allclose(vertices, [(50, 0.05), (50, 0.2)])


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({}, r"^fronts: got none, must be at least one condition"),
        ({"clean": []}, r"^fronts: costs of 'clean': got \[\], must be one or more"),
        ({"clean": [(0.0, 0.5)]}, r"^fronts: costs of 'clean': got \[0\.0\], .* above 0"),
        ({"clean": [(0.5, 0.5), (0.4, 0.6)]}, r"^fronts: costs of .* \[0\.5, 0\.4\], .*ascending"),
        ({"jpeg/3": [(0.5, 50.0)]}, r"^fronts: accuracy of 'jpeg/3': got \[50\.0\], .* 0 to 1"),
        ({"clean": [(0.5, float("nan"))]}, r"^fronts: accuracy of 'clean': got \[nan\]"),
    ],
)
def test_fronts_out_of_range_are_refused(
    points: dict[str, list[tuple[float, float]]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        plot_fronts(points, tmp_path / "plot.png", title="Wrong")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Curve([], []), r"^budgets: got \[\], must be one or more finite numbers above 0"),
        (lambda: Curve([0.5, float("inf")], [0.5, 0.5]), r"^budgets: got \[0\.5, inf\]"),
        (lambda: Curve([-0.5], [0.5]), r"^budgets: got \[-0\.5\]"),
        (lambda: Curve([0.5, 0.4], [0.5, 0.5]), r"^budgets: got \[0\.5, 0\.4\], .* ascending"),
        (lambda: Curve([0.4, 0.5], [0.5]), r"^accuracy: got \[0\.5\], must be 2 finite numbers"),
        (lambda: Curve([0.4], [1.01]), r"^accuracy: got \[1\.01\], .* from 0 to 1$"),
        (lambda: Gain([0.0], [1], [0], [2]), r"^budgets: got \[0\.0\]"),
        (lambda: Gain([0.5], [101], [0], [2]), r"^points: got \[101\.0\], .* from -100 to 100"),
        (lambda: Gain([0.5], [1], [0, 0], [2]), r"^low: got \[0\.0, 0\.0\], must be 1 finite"),
        (lambda: Gain([0.5], [1], [0], [float("nan")]), r"^high: got \[nan\]"),
        (lambda: Gain([0.5], [1], [2], [3]), r"^points: got 1 in \[2, 3\], must be in its interv"),
        (lambda: RegretCurve([0], [1], [1], [1]), r"^evaluations: got \[0\.0\]"),
        (lambda: RegretCurve([5, 4], [1, 1], [1, 1], [1, 1]), r"^evaluations: .* ascending"),
        (lambda: RegretCurve([5], [-0.1], [0], [1]), r"^median: got \[-0\.1\], .* from 0 to inf"),
        (lambda: RegretCurve([5], [1], [0], [float("inf")]), r"^high: got \[inf\], .* finite"),
        (lambda: RegretCurve([5], [0.5], [0], [0.4]), r"^median: got 0\.5 in \[0, 0\.4\]"),
    ],
)
def test_curves_out_of_range_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_names_that_are_no_curves_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    with pytest.raises(ValueError, match=r"^reference: got 'best', must be one of \['single', "):
        plot_value(CURVES, GAINS, path, title="Wrong", reference="best")
    with pytest.raises(ValueError, match=r"^reference: got 'blind', must be one of \[\]"):
        plot_value({}, GAINS, path, title="Wrong", reference="blind")
    gain = GAINS["rule"]
    for gains in ({}, {"other": gain}, {"rule": gain, "blind": gain}):
        with pytest.raises(ValueError, match=r"^gains: got .*, must be .* \['single', 'rule'\]"):
            plot_value(CURVES, gains, path, title="Wrong", reference="blind")
    assert not list(tmp_path.iterdir())


def test_no_regret_and_floors_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^curves: got none, must be at least one method"):
        plot_regret({}, tmp_path / "plot.png", title="Nothing")
    for floor in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"^floor: got .*, must be above 0 and below 1"):
            plot_regret(REGRETS, tmp_path / "plot.png", title="Wrong", floor=floor)
    assert not list(tmp_path.iterdir())
