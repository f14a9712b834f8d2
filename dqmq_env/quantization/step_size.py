"""Rules that set the step of a quantiser from the values that it will meet.

A rule maps values of shape (channels, count) and a grid to steps of shape (channels,); a quantiser
per tensor is the case of one channel.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dqmq_env.quantization.grid import Grid
from dqmq_env.quantization.quantizers import quantize

_SMALLEST = 1e-8


class StepSizeRule(Protocol):
    """Sets one step per channel."""

    def __call__(self, values: Tensor, grid: Grid) -> Tensor:
        """Map values (channels, count) to steps (channels,), all above zero."""
        ...


@dataclass(frozen=True)
class MinMax:
    """The smallest step that clips nothing."""

    def __call__(self, values: Tensor, grid: Grid) -> Tensor:
        """See :class:`StepSizeRule`."""
        highest, lowest = values.amax(1), values.amin(1)
        up = highest / max(grid.high + grid.offset, _SMALLEST)
        down = lowest / min(grid.low + grid.offset, -_SMALLEST)
        steps = torch.maximum(
            up if grid.high + grid.offset > 0 else torch.zeros_like(up),
            down if grid.low + grid.offset < 0 else torch.zeros_like(down),
        )
        return steps.clamp_min(_SMALLEST)


@dataclass(frozen=True)
class MeanSquaredError:
    """The step with the least mean squared quantisation error, by search below min-max.

    A coarse search over fractions of the min-max step, evenly spaced from ``smallest`` to 1, is
    followed by a finer one between the neighbours of the best.

    Attributes:
        coarse: number of fractions tried first.
        fine: number tried around the best.
        smallest: the smallest fraction tried.
    """

    coarse: int = 16
    fine: int = 8
    smallest: float = 0.05

    def __call__(self, values: Tensor, grid: Grid, importance: Tensor | None = None) -> Tensor:
        """See :class:`StepSizeRule`.

        Args:
            values: shape (channels, count).
            grid: what they are rounded to.
            importance: factors on the squared errors, of a shape that broadcasts to ``values``;
                equal ones when left out.
        """
        widest = MinMax()(values, grid)
        best = torch.ones_like(widest)
        least = torch.full_like(widest, math.inf)
        spacing = (1 - self.smallest) / (self.coarse - 1)
        offsets = torch.linspace(-spacing, spacing, self.fine).tolist()

        def attempt(fraction: Tensor) -> None:
            nonlocal best, least
            steps = widest * fraction
            squared = quantize(values, steps[:, None], grid).sub_(values).square_()
            error = (squared if importance is None else squared.mul_(importance)).mean(1)
            best = torch.where(error < least, fraction, best)
            least = torch.minimum(error, least)

        for share in torch.linspace(self.smallest, 1.0, self.coarse).tolist():
            attempt(torch.full_like(widest, share))
        centre = best
        for offset in offsets:
            attempt((centre + offset).clamp(self.smallest / 2, 1))
        return widest * best


@dataclass(frozen=True)
class LearnedStepSize:
    """Where LSQ starts: ``2 * mean|x| / sqrt(high)`` (Esser et al. 2020, section 2.1)."""

    def __call__(self, values: Tensor, grid: Grid) -> Tensor:
        """See :class:`StepSizeRule`."""
        return (2 * values.abs().mean(1) / math.sqrt(max(grid.high, 1))).clamp_min(_SMALLEST)


def zero_point(values: Tensor, bits: int) -> int:
    """The integer that stands for zero on an unsigned grid of ``bits`` that covers ``values``.

    It is 0 where no value is negative, as behind a ReLU.
    """
    lowest, highest = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if lowest == 0.0:
        return 0
    levels = 2**bits - 1
    return int(min(levels, max(0, round(-lowest / (highest - lowest) * levels))))
