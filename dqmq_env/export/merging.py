"""One integer for each weight that stands for its codes at several widths.

Where all of a channel's codes are rounded from the same values, each by a step of its own, there is
an order in which they grow: going up from the smallest value, one of the codes goes up by one at
the midpoint between two of its levels, until all are at their highest. A weight's place in that
order says all its codes, exactly. Widths of 2, 3 and 4 bits have 3 + 7 + 15 midpoints, so that 5
bits hold what would take 9.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dqmq_env.errors import ExportError
from dqmq_env.quantization.grid import Grid


def merged_bits(grids: Mapping[int, Grid]) -> int:
    """Bits that a place takes.

    Args:
        grids: width to the grid of its codes.
    """
    return _midpoints(grids).bit_length()


def merged(
    codes: Mapping[int, Tensor], rounding: Mapping[int, Tensor], grids: Mapping[int, Grid]
) -> NDArray[np.int64] | None:
    """The place of each weight, shape (O, C), or none where codes are not in such an order.

    Args:
        codes: width to codes, int8, shape (O, C).
        rounding: width to the steps that values are rounded by, shape (O,) or (1,).
        grids: width to the grid of its codes.
    """
    places = sum(codes[width].long() - grid.low for width, grid in grids.items())
    assert isinstance(places, Tensor)
    found = places.numpy()
    apart = split(found, rounding, grids)
    return found if all(apart[width].equal(own) for width, own in codes.items()) else None


def split(
    places: NDArray[np.int64], rounding: Mapping[int, Tensor], grids: Mapping[int, Grid]
) -> dict[int, Tensor]:
    """Width to the codes, int8, shape (O, C), that places stand for.

    Args:
        places: shape (O, C).
        rounding: width to the steps that values are rounded by, shape (O,) or (1,).
        grids: width to the grid of its codes.

    Raises:
        ExportError: a place is beyond the last.
    """
    if places.size and not 0 <= places.min() <= places.max() <= _midpoints(grids):
        raise ExportError(f"codes: got places up to {places.max()} of {_midpoints(grids)}")
    rows = len(places)
    midpoints, owners = [], []
    for width, grid in grids.items():
        levels = np.arange(grid.low, grid.high) + 0.5 + grid.offset
        steps = rounding[width].double().numpy()
        midpoints.append(np.broadcast_to(steps[:, None] * levels, (rows, len(levels))))
        owners.append(np.full(len(levels), width))
    order = np.argsort(np.concatenate(midpoints, 1), axis=1, kind="stable")
    passed = np.concatenate(owners)[order]
    found = {}
    for width, grid in grids.items():
        count = np.zeros((rows, order.shape[1] + 1), np.int64)
        np.cumsum(passed == width, axis=1, out=count[:, 1:])
        codes = np.take_along_axis(count, places, 1) + grid.low
        found[width] = torch.from_numpy(codes.astype(np.int8))
    return found


def _midpoints(grids: Mapping[int, Grid]) -> int:
    return sum(grid.high - grid.low for grid in grids.values())
