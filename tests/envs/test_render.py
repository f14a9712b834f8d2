import time
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray

from dqmq_env.envs.render import Frame, draw_rgb, draw_text
from dqmq_env.quantization.assignment import LayerBits

LAYERS = ("conv1", "layer1.0.conv1", "layer1.0.conv2", "fc")


def noise(count: int = 16, side: int = 28, channels: int = 1) -> NDArray[np.uint8]:
    shape = (count, side, side, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def alike(*widths: int | None) -> tuple[LayerBits | None, ...]:
    """Layers whose weights and activations have the same bits, or are not decided yet."""
    return tuple(None if width is None else LayerBits(width, width) for width in widths)


def frame(**changes: Any) -> Frame:
    middle = Frame(
        layers=LAYERS,
        bits=alike(8, 3, None, None),
        condition="gaussian_noise/3",
        cost_name="bops",
        cost_fraction=0.2,
        budget=0.5,
        accuracy=None,
        images=noise(),
    )
    return replace(middle, **changes)


def row_of(text: str, label: str) -> str:
    (row,) = (line for line in text.splitlines() if line.split(" ")[0] == label)
    return row[row.index(" ") :].strip()


def test_text_gives_each_decided_layer_a_block_for_each_bit() -> None:
    text = draw_text(frame())
    assert row_of(text, "conv1") == "████████  8"
    assert row_of(text, "layer1.0.conv1") == "███░░░░░  3"


def test_text_shows_layers_without_a_decision_as_such() -> None:
    text = draw_text(frame())
    assert row_of(text, "layer1.0.conv2") == "········  ?"
    assert row_of(text, "fc") == "········  ?"


def test_text_names_both_widths_where_they_differ() -> None:
    """Blocks are the bits of the weights."""
    text = draw_text(frame(bits=(LayerBits(4, 8), LayerBits(8, 2), *alike(6, None))))
    assert row_of(text, "conv1") == "████░░░░  4/8"
    assert row_of(text, "layer1.0.conv1") == "████████  8/2"
    assert row_of(text, "layer1.0.conv2") == "██████░░    6"
    assert row_of(text, "fc") == "········    ?"
    assert {len(line) for line in text.splitlines()[2:6]} == {29}


def test_text_keeps_forward_order_and_one_left_edge() -> None:
    lines = draw_text(frame()).splitlines()
    assert [line.split(" ")[0] for line in lines[2:6]] == list(LAYERS)
    assert {len(line) for line in lines[2:6]} == {27}
    assert {min(line.index(mark) for mark in "█·" if mark in line) for line in lines[2:6]} == {16}


@pytest.mark.parametrize(
    ("budget", "column"), [(0.0, 0), (0.25, 10), (0.5, 20), (0.99, 40), (1.0, 40), (1.7, 40)]
)
def test_text_marks_the_budget_where_it_ends(budget: float, column: int) -> None:
    bar = row_of(draw_text(frame(budget=budget, cost_fraction=0.0)), "bops").split("  ")[0]
    assert bar.index("│") == column
    assert len(bar) == 41


def test_text_without_a_budget_has_no_mark() -> None:
    text = draw_text(frame(budget=None))
    assert "│" not in text
    assert row_of(text, "bops") == "████████" + "░" * 32 + "  20.0% of 8 bits"


@pytest.mark.parametrize("budget", np.linspace(0.05, 1, 37))
def test_a_cost_within_the_budget_never_crosses_the_mark(budget: float) -> None:
    for share in (0.9, 0.99, 0.9999, 1.0):
        text = draw_text(frame(budget=float(budget), cost_fraction=float(budget) * share))
        assert "█" not in row_of(text, "bops").split("│")[1]


def test_text_names_condition_and_accuracy() -> None:
    assert row_of(draw_text(frame()), "condition") == "gaussian_noise/3"
    assert "%" not in row_of(draw_text(frame()), "accuracy")
    assert row_of(draw_text(frame(accuracy=0.875)), "accuracy") == "87.5%"


def test_text_is_plain() -> None:
    text = draw_text(frame(bits=alike(8, 3, 16, None), max_bits=16))
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert not text.endswith("\n")
    assert row_of(text, "conv1") == "████████░░░░░░░░   8"


def test_picture_has_its_shape_and_is_the_same_every_time() -> None:
    first, second = draw_rgb(frame()), draw_rgb(frame())
    assert first.shape == (540, 960, 3)
    assert first.dtype == np.uint8
    assert first.flags.writeable
    np.testing.assert_array_equal(first, second)


def test_picture_ignores_the_style_of_the_user() -> None:
    plain = draw_rgb(frame())
    ugly: dict[Any, Any] = {
        "figure.facecolor": "black",
        "font.family": "serif",
        "font.size": 30,
        "savefig.bbox": "tight",
        "text.color": "red",
    }
    with matplotlib.rc_context(ugly):
        np.testing.assert_array_equal(draw_rgb(frame()), plain)


LEFT, RIGHT = np.s_[:, :570], np.s_[:, 570:]


def track(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where nothing is drawn over the track of a bar."""
    return np.asarray((picture == (0xEC, 0xEF, 0xF3)).all(axis=2))


def test_bits_change_the_left_of_the_picture_alone() -> None:
    one, other = draw_rgb(frame()), draw_rgb(frame(bits=alike(8, 4, None, None)))
    assert (one[LEFT] != other[LEFT]).any()
    np.testing.assert_array_equal(one[RIGHT], other[RIGHT])


def test_more_bits_fill_more_of_the_picture() -> None:
    def filled(bits: int) -> int:
        picture = draw_rgb(frame(bits=alike(*[bits] * 4), images=noise(1)))[LEFT]
        return int((~track(picture)).sum())

    areas = [filled(bits) for bits in range(1, 9)]
    assert areas == sorted(areas)
    assert min(np.diff(areas)) > 1000


def test_upper_half_of_a_bar_is_about_weights_and_the_lower_one_about_the_activation() -> None:
    def drawn(weight: int, activation: int) -> NDArray[np.uint8]:
        # without the number beside the bar
        return draw_rgb(frame(bits=(LayerBits(weight, activation), *alike(1, 1, 1))))[LEFT][:, :520]

    both, weights, activations = drawn(4, 4), drawn(8, 4), drawn(4, 8)
    rows = [np.flatnonzero((both != other).any((1, 2))) for other in (weights, activations)]
    assert len(rows[0]) > 10
    assert rows[0].max() <= rows[1].min()
    assert abs(len(rows[0]) - len(rows[1])) <= 1
    # all of the halves but their common edge are as in a bar of one width
    middle = rows[1].min() + 1
    np.testing.assert_array_equal(weights[: middle - 1], drawn(8, 8)[: middle - 1])
    np.testing.assert_array_equal(weights[middle:], both[middle:])
    np.testing.assert_array_equal(activations[middle:], drawn(8, 8)[middle:])


@pytest.mark.parametrize(("weight", "activation"), [(4, 8), (8, 4), (1, 2)])
def test_a_mixed_bar_is_filled_half_by_each(weight: int, activation: int) -> None:
    def empty(weight: int, activation: int) -> int:
        picture = draw_rgb(frame(bits=(LayerBits(weight, activation),) * 4, images=noise(1)))
        return int(track(picture[LEFT]).sum())

    mean = (empty(weight, weight) + empty(activation, activation)) / 2
    assert empty(weight, activation) == pytest.approx(mean, rel=0.05)


@pytest.mark.parametrize(
    "changes",
    [
        {"condition": "clean"},
        {"cost_fraction": 0.3},
        {"budget": 0.7},
        {"budget": None},
        {"accuracy": 0.5},
        {"images": noise(4)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_rest_changes_the_right_of_the_picture_alone(changes: dict[str, Any]) -> None:
    one, other = draw_rgb(frame()), draw_rgb(frame(**changes))
    assert (one[RIGHT] != other[RIGHT]).any()
    np.testing.assert_array_equal(one[LEFT], other[LEFT])


def test_images_are_shown_as_they_are() -> None:
    red = np.zeros((1, 12, 12, 3), np.uint8)
    red[..., 0] = 200
    inside = draw_rgb(frame(images=red))[70:400, 600:930]
    assert (inside == (200, 0, 0)).all()
    grey = draw_rgb(frame(images=np.full((1, 12, 12, 1), 90, np.uint8)))[70:400, 600:930]
    assert (grey == 90).all()


@pytest.mark.parametrize(
    "images", [noise(0), noise(5, 3), noise(16, 224, 3), noise(2)[:, :10], noise(3)[:, :, :7]]
)
def test_any_number_and_size_of_images_fits(images: NDArray[np.uint8]) -> None:
    picture = draw_rgb(frame(images=images))
    assert picture.shape == (540, 960, 3)
    assert (picture[:, 940:] == 255).all()


@pytest.mark.parametrize("count", [1, 60, 200])
def test_any_number_of_layers_fits(count: int) -> None:
    layers = tuple(f"backbone.stages.{i}.blocks.depthwise.projection" for i in range(count))
    picture = draw_rgb(frame(layers=layers, bits=alike(*[8] * count)))
    assert (picture[:, :20] == 255).all()
    assert (picture[:, 570:580] == 255).all()
    assert (picture[530:] == 255).all()


def test_a_picture_is_fast_enough_for_a_video() -> None:
    layers = tuple(f"layer{i}" for i in range(22))
    scene = frame(layers=layers, bits=alike(*[8] * 22))
    draw_rgb(scene)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        draw_rgb(scene)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5  # about 0.1 s; the rest is for a loaded machine


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": (), "bits": ()}, "^layers: got none"),
        ({"bits": alike(8, 8)}, "^bits: got 2 for 4 layers"),
        (
            {"bits": alike(8, 9, None, None)},
            r"^bits: got \(9, 9\) for layer1.0.conv1, must be 1 to 8",
        ),
        ({"bits": alike(0, 8, None, None)}, r"^bits: got \(0, 0\) for conv1"),
        ({"bits": (LayerBits(8, 9), *alike(8, 8, 8))}, r"^bits: got \(8, 9\) for conv1"),
        ({"bits": (*alike(8, 8, 8), LayerBits(0, 8))}, r"^bits: got \(0, 8\) for fc"),
        ({"cost_fraction": -0.1}, "^cost_fraction: got -0.1"),
        ({"cost_fraction": float("nan")}, "^cost_fraction: got nan"),
        ({"budget": float("nan")}, "^budget: got nan"),
        ({"accuracy": 87.5}, "^accuracy: got 87.5"),
        ({"images": noise().astype(np.float32)}, "^images: got float32"),
        ({"images": noise()[0]}, r"^images: got uint8 of shape \(28, 28, 1\)"),
        ({"images": noise(channels=2)}, "^images: got uint8 of shape"),
        ({"images": noise(17)}, r"^images: got shape \(17, .*at most 16"),
        ({"images": noise(side=0)}, "^images: got shape"),
    ],
)
def test_a_field_that_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frame(**changes)
