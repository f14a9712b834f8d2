"""The policy's own arithmetic: 8-bit weights times 8-bit numbers, so that deciding is cheap."""

import torch
from torch import Tensor

_TOP = 127


def rounded(x: Tensor, reach: float | Tensor) -> Tensor:
    """``x`` on the grid of signed 8-bit integers up to ``reach``; gradients pass straight through.

    Args:
        x: any shape.
        reach: the largest magnitude that the grid holds, above zero; what lies beyond is cut off.
    """
    step = reach / _TOP
    on_grid = (x.detach() / step).round().clamp(-_TOP, _TOP) * step
    return x + (on_grid - x.detach())


def rounded_weight(weight: Tensor) -> Tensor:
    """A weight on the grid that its own largest magnitude reaches."""
    return rounded(weight, weight.detach().abs().max().clamp_min(torch.finfo(weight.dtype).tiny))
