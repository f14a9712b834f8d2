"""How a network is quantised while it is trained: what is rounded to which grid, what is learned.

A layer keeps a step for each width of its weights and of its input
(:class:`~dqmq_env.quantization.layer.QuantizedLayer`). A scheme says what it makes of them. It
holds no state, so that one object serves all layers.
"""

import math
from dataclasses import dataclass
from typing import Final, Protocol

from torch import Tensor

from dqmq_env.quantization.grid import Grid, weight_grid
from dqmq_env.quantization.quantizers import learned_quantize


class Scheme(Protocol):
    """A frozen dataclass whose ``repr`` tells it from every other scheme.

    The quantised weight at b bits is ``step * (k + offset)`` for the integers k of a grid of 2**b
    values, so that its codes can be stored and computed with.
    """

    def weight_grid(self, bits: int) -> Grid:
        """The grid of weights of ``bits``."""
        ...

    def weight_terms(self, weight: Tensor, step: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        """What is rounded to the grid in place of the weight, and the step that it is rounded by.

        Args:
            weight: float, shape (O, ...).
            step: the layer's own at ``bits``, of a shape that broadcasts to ``weight``.
            bits: width.
        """
        ...

    def weight(self, weight: Tensor, step: Tensor, bits: int) -> Tensor:
        """The terms rounded to the grid, with gradients where they are enabled."""
        ...

    def input(self, x: Tensor, step: Tensor, grid: Grid, count: int) -> Tensor:
        """A layer's input rounded to its grid, with gradients where they are enabled.

        Args:
            x: shape (N, ...).
            step: the layer's own, a scalar.
            grid: unsigned, or with a zero point where some of the input is negative.
            count: values that one image has.
        """
        ...

    def penalty(self, step: Tensor, grid: Grid) -> Tensor | float:
        """What is added to the loss for an input that is rounded by ``step`` to ``grid``."""
        ...


@dataclass(frozen=True)
class LSQ:
    """All steps are learned (Esser et al. 2020, Learned Step Size Quantization)."""

    def weight_grid(self, bits: int) -> Grid:
        """See :class:`Scheme`."""
        return weight_grid(bits)

    def weight_terms(self, weight: Tensor, step: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        """See :class:`Scheme`: weight and step as they are."""
        return weight, step

    def weight(self, weight: Tensor, step: Tensor, bits: int) -> Tensor:
        """See :class:`Scheme`."""
        grid = self.weight_grid(bits)
        scale = _gradient_scale(weight.numel() // step.numel(), grid)
        return learned_quantize(weight, step, grid, scale)

    def input(self, x: Tensor, step: Tensor, grid: Grid, count: int) -> Tensor:
        """See :class:`Scheme`."""
        return learned_quantize(x, step, grid, _gradient_scale(count, grid))

    def penalty(self, step: Tensor, grid: Grid) -> Tensor | float:
        """See :class:`Scheme`: none."""
        return 0.0


def _gradient_scale(count: int, grid: Grid) -> float:
    """LSQ's scale of a step's gradient (Esser et al. 2020, section 2.2), for ``count`` values."""
    return 1 / math.sqrt(count * max(grid.high, 1))


DEFAULT_SCHEME: Final[Scheme] = LSQ()
