"""What all pictures share: how they are written, their looks, axes and labels."""

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Final

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from dqmq_env.files import atomic_write_bytes

GREY: Final = "#57606a"

# Okabe and Ito's palette, told apart with every common kind of colour blindness; markers go round
# in another period, so that 42 groups look different.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_MARKERS: Final = ("s", "D", "^", "v", "P", "X", "p")
_STYLE: Final = {
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "errorbar.capsize": 3,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.dpi": 160,
    "grid.color": "#d8dee4",
    "legend.frameon": False,
    "lines.markeredgecolor": "white",
    "lines.markersize": 7,
    "text.parse_math": False,
}


@contextmanager
def picture(path: str | Path, title: str, width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure, and write it as PNG once the block has drawn all of it.

    Where the block or the drawing fails, the file stays as it was. The same drawing gives the same
    bytes, whatever style is set in matplotlib.

    Args:
        path: file to write; folders that are missing are made.
        title: what the picture shows, in plain words; broken into lines where it is long.
        width: of the whole picture, in inches.
        height: of it, in inches.

    Raises:
        OSError: the file cannot be written.
    """
    target, buffer = Path(path), BytesIO()
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        text = textwrap.fill(title, int(9 * width))
        figure.suptitle(text, x=0.12 / width, ha="left", size=13, weight="bold")
        yield figure
        figure.savefig(buffer, format="png", metadata={"Software": None})
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(target, buffer.getvalue())


def looks(groups: Iterable[str], baseline: str | None = None) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each group, in their order; grey for the baseline."""
    pairs = zip(cycle(_COLOURS), cycle(_MARKERS), strict=False)
    return {g: (GREY, "o") if g == baseline else next(pairs) for g in dict.fromkeys(groups)}


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis; linear steps where it spans less than a factor of 5."""
    if high < 5 * low:
        return [float(tick) for tick in MaxNLocator(5).tick_values(low, high)]
    digits = (1, 2, 3, 5, 7) if high < 50 * low else (1, 2, 5) if high < 10_000 * low else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [digit * 10.0**decade for decade in decades for digit in digits]


def log_x_axis(axes: Axes, values: Sequence[float], label: str) -> None:
    """Make the x axis logarithmic, with round ticks and room for all ``values``, at least one."""
    least, most = min(values), max(values)
    margin = max(1.15, (most / least) ** 0.08)
    axes.set(xscale="log", xlim=(least / margin, most * margin))
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(*axes.get_xlim())))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def cost_axis(axes: Axes, costs: Iterable[float], name: str = "BOPs") -> None:
    """Make the x axis one of a cost in percent, for ``costs`` as fractions of that at 8 bits."""
    label = f"{name} (% of the network at 8 bits, log scale)"
    log_x_axis(axes, [100 * cost for cost in costs], label)


def label_ends(
    figure: Figure, axes: Axes, ends: Mapping[str, tuple[tuple[float, float], str]]
) -> None:
    """Write names in a column on the right, each with a line from the end of its curve.

    Args:
        figure: that all but the names has been drawn in.
        axes: of the curves; their limits are settled.
        ends: name to the last point (x, y) of its curve, in units of the axes, and its colour.
    """
    ascending = sorted(ends.items(), key=lambda item: item[1][0][1])
    labels = [
        axes.annotate(
            name,
            place,
            (1.03, 0.5),
            textcoords="axes fraction",
            annotation_clip=False,
            size=9,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.8,
                "relpos": (0, 0.5),
                "shrinkB": 4,
            },
        )
        for name, (place, colour) in ascending
    ]
    figure.draw_without_rendering()  # settles where the axes lie
    to_fraction = axes.transData - axes.transAxes
    wanted = to_fraction.transform([place for _, (place, _) in ascending])[:, 1]
    gap = 1.15 * max(Text.get_window_extent(label).height for label in labels) / axes.bbox.height
    for label, height in zip(labels, _spread(wanted, gap), strict=True):
        label.set_position((1.03, height))


def _spread(wanted: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """The places in [0, 1] nearest to the ascending ``wanted`` ones that lie ``gap`` apart.

    Without the room that the ones below take up, they need only ascend: isotonic regression, by its
    max-min formula.
    """
    count = len(wanted)
    below = gap * np.arange(count)
    free = wanted - below
    ascending = [
        max(min(free[a:b].mean() for b in range(i + 1, count + 1)) for a in range(i + 1))
        for i in range(count)
    ]
    spread: NDArray[np.float64] = below + np.clip(ascending, gap / 2, 1 - gap / 2 - below[-1])
    return spread
