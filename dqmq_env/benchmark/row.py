"""A measured ratio, and how two things are timed in turn."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Row:
    """A measured ratio.

    Attributes:
        what: in words.
        ratio: median over the rounds.
        low: lower quartile.
        high: upper quartile.
        bar: what the ratio is to reach.
        met: whether it does.
    """

    what: str
    ratio: float
    low: float
    high: float
    bar: str
    met: bool


def compare(
    what: str,
    bar: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    rounds: int,
    times: float = 1.0,
) -> Row:
    """Time two things in turn.

    Args:
        what: in words.
        bar: ``<= 1.25`` bounds our time over the reference's; ``>= 5`` the reverse quotient, the
            number of times that we are faster.
        ours: does our side once.
        reference: does the other side once.
        rounds: number of pairs of times; one more is made first, to warm up.
        times: how many times the reference's work ours does.
    """
    faster = bar.startswith(">")
    quotients = []
    for number in range(rounds + 1):
        own, other = _seconds(ours) / times, _seconds(reference)
        if number:
            quotients.append(other / own if faster else own / other)
    return middle(what, bar, quotients)


def middle(what: str, bar: str, found: Sequence[float]) -> Row:
    """The row of what was found in some rounds.

    Args:
        what: in words.
        bar: ``<= 1.25`` or ``>= 5``.
        found: a number for each round.
    """
    low, ratio, high = np.quantile(found, [0.25, 0.5, 0.75])
    bound = float(bar.split()[1])
    met = ratio >= bound if bar.startswith(">") else ratio <= bound
    return Row(what, float(ratio), float(low), float(high), bar, bool(met))


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
