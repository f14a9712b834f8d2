"""Grids of integers that uniform quantisers round to."""

from dataclasses import dataclass

from dqmq_env.errors import SettingError

FLOAT_BITS = 32
MAX_BITS = 8


@dataclass(frozen=True)
class Grid:
    """The values ``step * (k + offset)`` for integers ``k`` from ``low`` to ``high``.

    Attributes:
        low: smallest integer.
        high: largest integer.
        offset: 0 except for one-bit weights, whose two values lie half a step off zero.
    """

    low: int
    high: int
    offset: float = 0.0

    @property
    def reach(self) -> float:
        """The largest magnitude on the grid, in steps."""
        return max(abs(self.low + self.offset), abs(self.high + self.offset))


def weight_grid(bits: int) -> Grid:
    """The symmetric grid for weights: ``-2**(b-1) .. 2**(b-1) - 1``; at 1 bit ``-1/2, +1/2``.

    The range is that of LSQ (Esser et al. 2020, section 2), which leaves no code unused.

    Raises:
        SettingError: ``bits`` is not 1 to 8.
    """
    _check(bits)
    if bits == 1:
        return Grid(-1, 0, 0.5)
    return Grid(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def activation_grid(bits: int, zero_point: int = 0) -> Grid:
    """The grid for activations: ``-z .. 2**b - 1 - z``, unsigned where the zero point ``z`` is 0.

    Raises:
        SettingError: ``bits`` is not 1 to 8, or the zero point is off the grid.
    """
    _check(bits)
    if not 0 <= zero_point < 2**bits:
        raise SettingError(f"zero_point: got {zero_point}, allowed are 0 to {2**bits - 1}")
    return Grid(-zero_point, 2**bits - 1 - zero_point)


def _check(bits: int) -> None:
    if not 1 <= bits <= MAX_BITS:
        raise SettingError(f"bits: got {bits}, allowed are 1 to {MAX_BITS}")
