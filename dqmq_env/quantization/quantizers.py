"""Uniform fake quantisation: round to a grid and go on in floating point.

All forms multiply by the inverse of the step, so that the one with gradients and the one without
agree to the last bit.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dqmq_env.quantization.grid import Grid


def quantize(x: Tensor, step: Tensor, grid: Grid) -> Tensor:
    """Round ``x`` to the nearest value of the grid, without gradients.

    Args:
        x: any shape.
        step: above zero, of a shape that broadcasts to ``x``: one number per tensor or channel.
        grid: the integers to round to.

    Returns:
        A new tensor of the shape and memory layout of ``x``.
    """
    with torch.no_grad():
        levels = _levels(x * step.reciprocal(), grid)
        return levels.mul_(step)


def quantize_to_codes(x: Tensor, step: Tensor, grid: Grid) -> Tensor:
    """The integer codes ``k`` that :func:`quantize` stands for, int16, of the shape of ``x``."""
    with torch.no_grad():
        levels = _levels(x * step.reciprocal(), grid)
        return levels.sub_(grid.offset).to(torch.int16)


def learned_quantize(x: Tensor, step: Tensor, grid: Grid, gradient_scale: float = 1.0) -> Tensor:
    """Quantise with straight-through gradients for ``x`` and LSQ's gradient for the step.

    Esser et al. 2020 (Learned Step Size Quantization), equations 1 to 3: inside the range the
    gradient with respect to the step is ``round(x / s) - x / s``, outside it is the bound; with
    respect to ``x`` it is one inside and zero outside.

    Args:
        x: any shape.
        step: above zero, of a shape that broadcasts to ``x``.
        grid: the integers to round to.
        gradient_scale: factor on the step's gradient; LSQ takes ``1 / sqrt(count * high)``.
    """
    if not torch.is_grad_enabled():
        return quantize(x, step, grid)
    result: Tensor = _LearnedQuantize.apply(x, step, grid, gradient_scale)
    return result


def straight_through(x: Tensor, step: Tensor, grid: Grid) -> Tensor:
    """Quantise; ``x`` gets the gradient of the result as it is, the step gets none.

    Args:
        x: any shape.
        step: above zero, of a shape that broadcasts to ``x``.
        grid: the integers to round to.
    """
    if not torch.is_grad_enabled():
        return quantize(x, step, grid)
    result: Tensor = _StraightThrough.apply(x, step, grid)
    return result


def _levels(scaled: Tensor, grid: Grid) -> Tensor:
    """Round ``scaled`` in place to the grid, in units of the step."""
    if grid.offset:
        scaled.sub_(grid.offset)
    scaled.round_().clamp_(grid.low, grid.high)
    return scaled.add_(grid.offset) if grid.offset else scaled


class _LearnedQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, grid: Grid, gradient_scale: float) -> Tensor:
        ctx.save_for_backward(x, step)
        ctx.grid, ctx.gradient_scale = grid, gradient_scale
        return quantize(x, step, grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, step = ctx.saved_tensors
        grid: Grid = ctx.grid
        scaled = x * step.reciprocal()
        low, high = grid.low + grid.offset, grid.high + grid.offset
        # the gradient of clamp, as one fused kernel: its first argument inside, zero outside
        clamped = torch.ops.aten.hardtanh_backward
        to_x = clamped(gradient, scaled, low, high) if ctx.needs_input_grad[0] else None
        to_step = None
        if ctx.needs_input_grad[1]:
            inside = clamped(scaled, scaled, low, high)
            slope = _levels(scaled, grid).sub_(inside)
            to_step = slope.mul_(gradient).sum_to_size(step.shape) * ctx.gradient_scale
        return to_x, to_step, None, None


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, grid: Grid) -> Tensor:
        return quantize(x, step, grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient, None, None
