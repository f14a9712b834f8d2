"""Scale and offset of each channel of each image, with gradients, in no more memory than needed."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_LEAST = 2**-6
"""Scales below this would blow up what rounding has done to the result."""


def scale_and_shift(x: Tensor, scale: Tensor, offset: Tensor, keep_input: bool) -> Tensor:
    """``scale * x + offset``, in the memory layout of ``x``; in place of ``x`` without gradients.

    The gradient of the scale, which needs ``x``, follows from the result: with result z and its
    gradient g it is ``sum(g (z - offset)) / scale``. What comes next, such as a batch norm, has to
    keep z anyway, so that nothing more is held.

    Args:
        x: shape (N, O, ...).
        scale: of each channel of all images, or of each of them, shape (1, O) or (N, O).
        offset: the same.
        keep_input: hold ``x`` instead: for where something may write into the result. So it is too
            where a scale is next to zero.
    """
    if torch.is_grad_enabled():
        result: Tensor = _ScaleAndShift.apply(x, scale, offset, keep_input)
        return result
    # new memory would take longer than the products, and so would a second pass
    return torch.addcmul(_beside(offset, x), x, _beside(scale, x), out=x)


class _ScaleAndShift(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, offset: Tensor, keep_input: bool) -> Tensor:
        result = torch.addcmul(_beside(offset, x), x, _beside(scale, x))
        ctx.keeps_input = keep_input or float(scale.abs().min()) < _LEAST
        ctx.save_for_backward(x if ctx.keeps_input else result, scale, offset)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        kept, scale, offset = ctx.saved_tensors
        to_offset = _of_channels(gradient, scale)
        product = gradient * kept
        to_scale = _of_channels(product, scale)
        if not ctx.keeps_input:
            to_scale = (to_scale - offset * to_offset) / scale
        to_x = torch.mul(gradient, _beside(scale, gradient), out=product)
        return to_x, to_scale, to_offset, None


def _beside(rows: Tensor, x: Tensor) -> Tensor:
    """Rows (1, O) or (N, O), to be broadcast to ``x`` of shape (N, O, ...)."""
    return rows.view(*rows.shape, *(1,) * (x.ndim - 2))


def _of_channels(x: Tensor, rows: Tensor) -> Tensor:
    """The sum over what shares a number of ``rows``, in their shape."""
    sums = x.flatten(2).sum(2) if x.ndim > 2 else x.clone()
    return sums.sum_to_size(rows.shape)
