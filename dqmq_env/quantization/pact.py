"""PACT: Parameterized Clipping Activation for Quantized Neural Networks (Choi et al. 2018)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dqmq_env.quantization.dorefa import DoReFa
from dqmq_env.quantization.grid import Grid
from dqmq_env.quantization.quantizers import quantize
from dqmq_env.quantization.scheme import LSQ


@dataclass(frozen=True)
class PACT(DoReFa):
    """Activations cut at a bound ``alpha`` that is learned; weights are DoReFa's, as in the paper.

    Activations, k bits: ``y = 0.5 (|x| - |x - alpha| + alpha)`` (equation 1), which is x cut to
    [0, alpha], then ``round(y (2**k - 1) / alpha) alpha / (2**k - 1)`` (equation 2). The gradient
    with respect to ``alpha`` is 1 where ``x >= alpha`` and 0 elsewhere (equation 3). ``alpha`` is
    the layer's step times ``2**k - 1``; calibration gives its first value, and what is learned is
    its logarithm, which keeps it above zero.

    Input that may be negative, such as the images, cannot be cut at zero: it keeps the grid with a
    zero point, whose step is learned as in :class:`~dqmq_env.quantization.scheme.LSQ`.

    Attributes:
        decay: factor of the L2 regularisation of ``alpha``: the loss gets ``decay / 2 * alpha**2``
            for each layer and width in use.
    """

    decay: float = 1e-4

    def input(self, x: Tensor, step: Tensor, grid: Grid, count: int) -> Tensor:
        """See :class:`~dqmq_env.quantization.scheme.Scheme`."""
        if grid.low < 0:
            return LSQ().input(x, step, grid, count)
        if not torch.is_grad_enabled():
            return quantize(x, step, grid)
        result: Tensor = _ClippedQuantize.apply(x, step, grid)
        return result

    def penalty(self, step: Tensor, grid: Grid) -> Tensor | float:
        """See :class:`~dqmq_env.quantization.scheme.Scheme`."""
        return 0.0 if grid.low < 0 else self.decay / 2 * (step * grid.high).square()


class _ClippedQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, grid: Grid) -> Tensor:
        ctx.save_for_backward(x, step)
        ctx.grid = grid
        return quantize(x, step, grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, step = ctx.saved_tensors
        grid: Grid = ctx.grid
        scaled = x * step.reciprocal()
        to_x = to_step = None
        if ctx.needs_input_grad[0]:
            # one inside the range, zero outside and at its ends
            to_x = torch.ops.aten.hardtanh_backward(gradient, scaled, 0, grid.high)
        if ctx.needs_input_grad[1]:
            # alpha is the step times the highest code
            to_step = grid.high * gradient.mul(scaled >= grid.high).sum().view_as(step)
        return to_x, to_step, None
