"""Progress bars that teach on a terminal and stay short in a file."""

import sys
from typing import Any

from tqdm import tqdm


def progress(
    total: int, title: str, unit: str, initial: int = 0, shown: bool = True, delay: float = 0
) -> "tqdm[Any]":
    """A bar with rate and time left; where the output is no terminal, a line every 30 seconds.

    Args:
        total: number of units in all.
        title: stands before the bar.
        unit: the word for one unit.
        initial: units done by an earlier run.
        shown: ``False`` makes a bar that prints nothing.
        delay: seconds before it is shown, for work that is most often short.
    """
    return tqdm(
        total=total,
        initial=initial,
        desc=title,
        unit=unit,
        disable=not shown,
        delay=delay,
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 30,
    )
