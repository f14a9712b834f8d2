"""Pictures of an episode, as text for a terminal and as pixels for a video."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from dqmq_env.quantization.assignment import LayerBits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_IMAGES: Final = 16
WIDTH: Final = 960
HEIGHT: Final = 540

_TEXT_CELLS: Final = 40

# Pixels of `draw_rgb`, from the upper left corner: the bars of bits, and the column of images.
_BARS_LEFT, _BARS_RIGHT, _BARS_TOP, _BARS_BOTTOM = 24.0, 552.0, 84.0, 508.0
_SIDE_LEFT, _SIDE_RIGHT, _SIDE_TOP = 588.0, 936.0, 60.0
_IMAGE_GAP: Final = 4.0
_DPI: Final = 100
_CHARACTER: Final = 0.62  # widest usual advance of the font, as a fraction of its size
_LONGEST_NAME: Final = 190.0
_LOWEST_NAMED_ROW: Final = 10.0  # of lower rows only some are named
_HIGHEST_ROW: Final = 40.0

_INK, _FAINT_INK, _TRACK = "#1b1f24", "#6b7280", "#eceff3"
_COST, _BUDGET = "#0072b2", "#d55e00"

# Left, top, width, height, colour.
_Box = tuple[float, float, float, float, "str | tuple[float, float, float, float]"]


@dataclass(frozen=True, eq=False)
class Frame:
    """What a picture of an episode shows.

    Attributes:
        layers: names of all layers, in forward order.
        bits: of each layer's weights and activation, 1 to ``max_bits``; None where they are not
            decided yet.
        condition: the condition of the batch, such as ``gaussian_noise/3``.
        cost_name: the word for the cost, such as ``bops``.
        cost_fraction: the cost so far, as a fraction of the whole network's at 8 bits.
        budget: the bound on it, as the same fraction; None where none holds.
        accuracy: of the batch, in [0, 1]; None until the episode has ended.
        images: the beginning of the batch as the network sees it, shape (n, H, W, C), uint8; n 0
            to 16, C 1 or 3.
        max_bits: where a bar ends.

    Raises:
        ValueError: a field does not fit; the message names it.
    """

    layers: tuple[str, ...]
    bits: tuple[LayerBits | None, ...]
    condition: str
    cost_name: str
    cost_fraction: float
    budget: float | None
    accuracy: float | None
    images: NDArray[np.uint8]
    max_bits: int = 8

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("layers: got none, must be at least one")
        if len(self.bits) != len(self.layers):
            raise ValueError(
                f"bits: got {len(self.bits)} for {len(self.layers)} layers, must be one for each"
            )
        for name, bits in zip(self.layers, self.bits, strict=True):
            if bits is not None and not all(1 <= width <= self.max_bits for width in bits):
                got = tuple(bits)
                raise ValueError(f"bits: got {got} for {name}, must be 1 to {self.max_bits}")
        if not 0 <= self.cost_fraction < math.inf:
            raise ValueError(f"cost_fraction: got {self.cost_fraction}, must be at least 0")
        if self.budget is not None and not 0 <= self.budget < math.inf:
            raise ValueError(f"budget: got {self.budget}, must be at least 0, or None")
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise ValueError(f"accuracy: got {self.accuracy}, must be 0 to 1, or None")
        shape = self.images.shape
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3):
            raise ValueError(
                f"images: got {self.images.dtype} of shape {shape}, must be uint8 of shape "
                "(n, H, W, C) with C 1 or 3"
            )
        if shape[0] > MAX_IMAGES or 0 in shape[1:3]:
            raise ValueError(
                f"images: got shape {shape}, must be at most {MAX_IMAGES} images of 1 pixel or more"
            )


def draw_text(frame: Frame) -> str:
    """A picture of ``frame`` in plain characters, without colours or a line end at the end.

    One row for each layer, ``█`` for each bit of its weights (``·`` where not decided yet) and the
    number of its bits, ``4/8`` where those of its activation are others, then the cost on a scale
    of 40 cells for the cost at 8 bits. A ``│`` stands between two cells where the budget
    ends.
    """
    labels = ("condition", *frame.layers, frame.cost_name, "accuracy")
    width = max(map(len, labels))
    digits = max(len(_bits_text(bits)) for bits in frame.bits)

    def row(label: str, content: str) -> str:
        return f"{label:<{width}}  {content}"

    rows = [row("condition", frame.condition), ""]
    for name, bits in zip(frame.layers, frame.bits, strict=True):
        bar = "·" * frame.max_bits if bits is None else _blocks(bits.weight, frame.max_bits)
        rows.append(row(name, f"{bar}  {_bits_text(bits):>{digits}}"))
    scale = _blocks(_cells(frame.cost_fraction), _TEXT_CELLS)
    if frame.budget is not None:
        mark = _cells(frame.budget)
        scale = f"{scale[:mark]}│{scale[mark:]}"
    rows += ["", row(frame.cost_name, f"{scale}  {_cost_text(frame)}")]
    rows.append(row("accuracy", _accuracy_text(frame)))
    return "\n".join(rows)


def draw_rgb(frame: Frame) -> NDArray[np.uint8]:
    """A picture of ``frame`` in pixels, shape (540, 960, 3).

    The same frame gives the same pixels, whatever style is set in matplotlib.
    """
    # An environment that is never drawn should not pay for this import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, facecolor="white", edgecolor="white"
    )
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    _draw_bars(axes, frame)
    _draw_images(axes, frame)
    _draw_cost(axes, frame)
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), np.uint8)[..., :3].copy()


def _bits_text(bits: LayerBits | None) -> str:
    if bits is None:
        return "?"
    same = bits.weight == bits.activation
    return str(bits.weight) if same else f"{bits.weight}/{bits.activation}"


def _blocks(filled: int, cells: int) -> str:
    return "█" * filled + "░" * (cells - filled)


def _cells(fraction: float) -> int:
    # Cost and budget are rounded alike, so that a bar within the budget never crosses its mark.
    return round(min(fraction, 1.0) * _TEXT_CELLS)


def _cost_text(frame: Frame) -> str:
    text = f"{frame.cost_fraction:.1%} of 8 bits"
    return text if frame.budget is None else f"{text}, budget {frame.budget:.1%}"


def _accuracy_text(frame: Frame) -> str:
    return "after the last layer" if frame.accuracy is None else f"{frame.accuracy:.1%}"


def _draw_bars(axes: "Axes", frame: Frame) -> None:
    """The bits of each layer as horizontal bars, the first layer on top.

    The upper half of a bar is about the weights, the lower one about the activation.
    """
    from matplotlib import colormaps

    count = len(frame.layers)
    height = min((_BARS_BOTTOM - _BARS_TOP) / count, _HIGHEST_ROW)
    size = min(12.0, 0.72 * height) if height >= _LOWEST_NAMED_ROW else 7.5
    every = math.ceil(_LOWEST_NAMED_ROW / height)
    names = [_shortened(name, int(_LONGEST_NAME / (_CHARACTER * size))) for name in frame.layers]
    left = _BARS_LEFT + _CHARACTER * size * max(map(len, names)) + 10
    unit = (_BARS_RIGHT - 26 - left) / frame.max_bits
    end, bottom = left + unit * frame.max_bits, _BARS_TOP + height * count
    colours = colormaps["viridis_r"]

    _write(axes, _BARS_LEFT, 40, "Bits of each layer", 17, weight="bold")
    _write(axes, _BARS_LEFT, 65, "in forward order", 12, _FAINT_INK)
    boxes: list[_Box] = []
    for index, (name, bits) in enumerate(zip(names, frame.bits, strict=True)):
        middle = _BARS_TOP + height * (index + 0.5)
        top, thickness = middle - 0.38 * height, 0.76 * height
        boxes.append((left, top, end - left, thickness, _TRACK))
        if bits is not None:
            for half, width in enumerate(bits):
                start = top + half * thickness / 2
                colour = colours(width / frame.max_bits)
                boxes.append((left, start, unit * width, thickness / 2, colour))
        if index % every == 0:
            ink = _FAINT_INK if bits is None else _INK
            _write(axes, _BARS_LEFT, middle, name, size, ink)
            _write(axes, end + 8, middle, _bits_text(bits), size, ink)
    boxes += [
        (round(left + unit * mark) - 1, _BARS_TOP, 1, bottom - _BARS_TOP, "white")
        for mark in range(1, frame.max_bits)
    ]
    _fill(axes, boxes)
    for mark in range(0, frame.max_bits + 1, max(2, frame.max_bits // 4)):
        _write(axes, left + unit * mark, bottom + 12, str(mark), 11, _FAINT_INK, align="center")


def _draw_images(axes: "Axes", frame: Frame) -> None:
    """The images in a grid, under the name of the condition."""
    _write(axes, _SIDE_LEFT, 40, frame.condition, 17, weight="bold")
    side = _SIDE_RIGHT - _SIDE_LEFT
    count, height, width, _ = frame.images.shape
    if not count:
        _fill(axes, [(_SIDE_LEFT, _SIDE_TOP, side, side, _TRACK)])
        middle = (_SIDE_LEFT + _SIDE_RIGHT) / 2
        _write(axes, middle, _SIDE_TOP + side / 2, "no images", 12, _FAINT_INK, align="center")
        return
    columns = math.ceil(math.sqrt(count))
    scale = (side - _IMAGE_GAP * (columns - 1)) / columns / max(height, width)
    for index, image in enumerate(np.broadcast_to(frame.images, (count, height, width, 3))):
        x = _SIDE_LEFT + (scale * width + _IMAGE_GAP) * (index % columns)
        y = _SIDE_TOP + (scale * height + _IMAGE_GAP) * (index // columns)
        # Enlarged pixels stay sharp, since noise and blocks are what the picture is about.
        axes.imshow(
            image,
            aspect="auto",
            extent=(x, x + scale * width, y + scale * height, y),
            interpolation="nearest" if scale >= 1 else "hanning",
        )


def _draw_cost(axes: "Axes", frame: Frame) -> None:
    """The cost so far on a scale that ends at the cost at 8 bits, and the accuracy."""
    side, top = _SIDE_RIGHT - _SIDE_LEFT, 450.0
    _write(axes, _SIDE_LEFT, 434, f"{frame.cost_name} {_cost_text(frame)}", 12)
    boxes: list[_Box] = [
        (_SIDE_LEFT, top, side, 16, _TRACK),
        (_SIDE_LEFT, top, side * min(frame.cost_fraction, 1), 16, _COST),
    ]
    if frame.budget is not None:
        boxes.append((_SIDE_LEFT + side * min(frame.budget, 1) - 1, top - 5, 3, 26, _BUDGET))
    _fill(axes, boxes)
    _write(axes, _SIDE_LEFT, 502, "accuracy", 12)
    size, ink = (12.0, _FAINT_INK) if frame.accuracy is None else (24.0, _INK)
    _write(axes, _SIDE_RIGHT, 502, _accuracy_text(frame), size, ink, align="right")


def _fill(axes: "Axes", boxes: list[_Box]) -> None:
    """Fill ``boxes``, later ones over earlier ones."""
    from matplotlib.collections import PolyCollection

    corners = [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for x, y, w, h, _ in boxes]
    colours = [colour for *_, colour in boxes]
    axes.add_collection(PolyCollection(corners, facecolors=colours, linewidths=0), autolim=False)


def _shortened(name: str, length: int) -> str:
    # The end of a module path says more than its beginning.
    return name if len(name) <= length else f"…{name[1 - length :]}"


def _write(
    axes: "Axes",
    x: float,
    y: float,
    text: str,
    size: float,
    colour: str = _INK,
    *,
    weight: str = "normal",
    align: str = "left",
) -> None:
    """Put ``text`` at a pixel, its middle at ``y``; ``size`` is in pixels."""
    axes.text(
        x,
        y,
        text,
        fontfamily="DejaVu Sans",
        fontsize=size * 72 / _DPI,
        fontweight=weight,
        color=colour,
        horizontalalignment=align,
        verticalalignment="center_baseline",
        parse_math=False,
        usetex=False,
    )
