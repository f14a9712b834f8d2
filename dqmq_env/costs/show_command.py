"""Print a table of measured latencies: how it was measured, what each layer takes, what ran.

Examples:
  dqmq cost show --table latency.csv
  dqmq cost show --table latency.csv --pairs 8/8 4/32 32/32     # weights/activation
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tyro

from dqmq_env.costs.latency import LatencyTable
from dqmq_env.costs.timing import Timing
from dqmq_env.errors import SettingError
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.grid import FLOAT_BITS


@dataclass(frozen=True)
class ShowArguments:
    """Which table, and what of it.

    Attributes:
        table: CSV file, or .npy in HAQ's form with a .json beside it.
        pairs: weights/activation bits to show; those of equal bits when left out.
    """

    table: Path
    pairs: tuple[str, ...] = ()


def main(words: list[str]) -> None:
    """Entry point of ``dqmq cost show``.

    Raises:
        DQMQError: the table cannot be read, or has no such bits.
    """
    arguments = tyro.cli(ShowArguments, args=words, prog="dqmq cost show", description=__doc__)
    show_table(LatencyTable.load(arguments.table), arguments.pairs)


def show_table(latency: LatencyTable, words: tuple[str, ...] = ()) -> None:
    """Print a table.

    Args:
        latency: which.
        words: see ``pairs`` of :class:`ShowArguments`.

    Raises:
        SettingError: one of the pairs is not in the table.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    pairs = _pairs(latency, words)
    console = Console(highlight=False)
    for name, text in latency.about:
        console.print(f"[bold]{escape(name)}[/bold]: {escape(text)}")
    found = {(timing.layer, timing.bits): timing for timing in latency.timings}
    rows = {layer: [found.get((layer, pair)) for pair in pairs] for layer in latency.layers}
    table = Table(title="milliseconds for one image, weights/activation bits", show_footer=True)
    table.add_column("layer", "sum", overflow="fold")
    for pair, column in zip(pairs, zip(*rows.values(), strict=True), strict=True):
        times = [math.nan if own is None else own.milliseconds for own in column]
        table.add_column(_heading(pair), _number(sum(times)), justify="right")
    table.add_column("spread", justify="right")
    for layer, own in rows.items():
        times = [math.nan if timing is None else timing.milliseconds for timing in own]
        table.add_row(escape(layer), *map(_number, times), _spread(own))
    console.print(table)
    ran: dict[str, list[str]] = {}
    for pair, column in zip(pairs, zip(*rows.values(), strict=True), strict=True):
        for form in sorted({timing.form for timing in column if timing and timing.form}):
            ran.setdefault(form, []).append(_heading(pair))
    for form, headings in ran.items():
        console.print(f"{', '.join(headings)}: {escape(form)}")
    console.print("spread: half the interquartile range, the widest of the row's medians")
    console.print(f"candidates that every layer has: bits={latency.joint_widths}")


def _number(milliseconds: float) -> str:
    return "-" if math.isnan(milliseconds) else f"{milliseconds:.4f}"


def _spread(timings: Iterable[Timing | None]) -> str:
    """Half the interquartile range over the median, the widest of some timings."""
    shares = [
        (own.high - own.low) / 2 / own.milliseconds
        for own in timings
        if own and own.milliseconds and own.low is not None and own.high is not None
    ]
    return f"{max(shares):.0%}" if shares else "-"


def _pairs(latency: LatencyTable, words: tuple[str, ...]) -> list[LayerBits]:
    known = sorted({timing.bits for timing in latency.timings}, reverse=True)
    if not words:
        return [bits for bits in known if bits.weight == bits.activation] or known
    names = {f"{bits.weight}/{bits.activation}": bits for bits in known}
    for word in words:
        if word not in names:
            raise SettingError(f"pairs: got {word!r}, the table has {', '.join(names)}")
    return [names[word] for word in words]


def _heading(pair: LayerBits) -> str:
    whole = pair.weight == pair.activation == FLOAT_BITS
    return "float" if whole else f"{pair.weight}/{pair.activation}"
