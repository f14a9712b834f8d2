"""The policy's own arithmetic: 8-bit weights times 8-bit numbers, so that deciding is cheap."""

import torch
from torch import Tensor

_TOP = 127
MAC_BOPS = 8 * 8
"""Bit operations of one multiply-accumulate of this arithmetic."""


def rounded(x: Tensor, reach: float | Tensor) -> Tensor:
    """``x`` on the grid of signed 8-bit integers up to ``reach``; gradients pass straight through.

    What is given is the same with and without gradients where ``x`` reaches no further than the
    grid: two numbers at most half a step apart are subtracted without rounding.

    Args:
        x: any shape.
        reach: the largest magnitude that the grid holds, above zero; what lies beyond is cut off.
    """
    step = reach / _TOP
    on_grid = (x.detach() / step).round().clamp(-_TOP, _TOP) * step
    if not torch.is_grad_enabled():
        return on_grid
    return x + (on_grid - x.detach())


def product(x: Tensor, reach: float, weight: Tensor) -> Tensor:
    """``x`` (G, E) times a weight (E, C), both on 8-bit grids, shape (G, C).

    Sums are of integers, and thus exact: what a row gives does not depend on the others.

    Args:
        x: up to ``reach`` in magnitude.
        reach: see :func:`rounded`.
        weight: on the grid that its own largest magnitude reaches.
    """
    top = weight.detach().abs().max()
    step = torch.where(top > 0, top, torch.ones_like(top)) / _TOP
    codes = rounded(x * (_TOP / reach), _TOP) @ rounded(weight / step, _TOP)
    return codes * (step * (reach / _TOP))


def rounded_weight(weight: Tensor) -> Tensor:
    """A weight on the grid that its own largest magnitude reaches."""
    return rounded(weight, weight.detach().abs().max().clamp_min(torch.finfo(weight.dtype).tiny))
