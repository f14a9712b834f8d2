"""A few pooled numbers of an activation: what a layer is about to receive."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dqmq_env.evaluation.statistic_table import SPACING
from dqmq_env.quantization.channels import channels_second
from dqmq_env.quantization.rows import is_channels_last


def activation_statistics(x: Tensor, axis: int, reach: Tensor, groups: int = 1) -> Tensor:
    """The :data:`ACTIVATION_STATISTICS` of the activation of each group of images, in [0, 1].

    ``mean`` is the mean magnitude, ``rms`` the root mean square, both as fractions of ``reach``;
    ``nonzero`` is the share of values that are not zero; ``peak`` is half the largest magnitude as
    a fraction of ``reach``, so that 0.5 is what calibration saw. Feature maps are looked at in
    every second row and column. Gradients flow through all but ``nonzero``.

    Args:
        x: activation of N images.
        axis: where its channels are, see
            :attr:`~dqmq_env.quantization.spec.LayerSpec.channel_axis`.
        reach: the largest magnitude seen in calibration, a scalar above zero.
        groups: G, which divides N; consecutive images form a group.

    Returns:
        Shape (G, 4).
    """
    return _features(_moments(channels_second(x, axis), groups), reach)


def batch_statistics(parts: Sequence[Tensor], axis: int, reach: Tensor) -> Tensor:
    """The same for the one activation of a batch that lies in consecutive parts.

    Returns:
        Shape (4,).
    """
    moments = torch.stack([_moments(channels_second(part, axis), 1)[0] for part in parts])
    counts = torch.tensor([float(part.numel()) for part in parts], device=moments.device)
    shares = counts / counts.sum()
    pooled = torch.cat([shares @ moments[:, :3], moments[:, 3:].amax(0)])
    return _features(pooled[None], reach)[0]


def image_cells(images: Tensor, side: int, groups: int = 1) -> Tensor:
    """Brightness and contrast of each cell of a grid, over the images of each group.

    The image is divided into ``side`` by ``side`` cells of equal area; what lies in two cells
    counts in both, by its share. Brightness is the mean of a channel in a cell, contrast its
    standard deviation there; of a group, both are the mean over its images.

    Args:
        images: uint8, shape (N, C, H, W).
        side: of the grid.
        groups: G, which divides N; consecutive images form a group.

    Returns:
        Shape (G, 2 * C * side**2), in [0, 1]: all of the brightness, then all of the contrast.
    """
    x = images.float() / 255
    down, across = (_cells(x.shape[dim], side).to(x) for dim in (2, 3))
    mean = down.T @ (x @ across)
    variance = down.T @ (x.square() @ across) - mean.square()
    both = torch.cat([mean.flatten(1), variance.clamp_min(0).sqrt().flatten(1)], 1)
    cells: Tensor = both.unflatten(0, (groups, -1)).mean(1)
    return cells


def _cells(size: int, side: int) -> Tensor:
    """The share of each of ``size`` places in each of ``side`` cells, columns summing to one."""
    borders = torch.linspace(0, size, side + 1, dtype=torch.float64)
    places = torch.arange(size, dtype=torch.float64)[:, None]
    inside = torch.minimum(places + 1, borders[1:]) - torch.maximum(places, borders[:-1])
    return inside.clamp_min(0) * side / size


def channel_means(x: Tensor, axis: int, reach: Tensor, groups: int = 1) -> Tensor:
    """The mean of each channel of the activation of each group of images.

    Feature maps are looked at in every second row and column.

    Args:
        x: activation of N images.
        axis: where its channels are, see
            :attr:`~dqmq_env.quantization.spec.LayerSpec.channel_axis`.
        reach: the largest magnitude seen in calibration, a scalar above zero.
        groups: G, which divides N; consecutive images form a group.

    Returns:
        Shape (G, C), as fractions of ``reach``.
    """
    x = channels_second(x, axis)
    if x.ndim == 4:
        rows = x[:, :, ::SPACING, ::SPACING].mean((2, 3))
    else:
        rows = x.flatten(2).mean(2) if x.ndim > 2 else x
    means: Tensor = rows.unflatten(0, (groups, -1)).mean(1) / reach
    return means


def _moments(x: Tensor, groups: int) -> Tensor:
    """Mean magnitude, mean square, share of non-zeros, and peak of each group, shape (G, 4)."""
    if torch.is_grad_enabled() and x.requires_grad:
        moments: Tensor = _Moments.apply(x, groups)
        return moments
    # values lie apart in memory, so that the pass that gathers them takes the magnitudes too
    magnitudes = _looked_at(x, is_channels_last(x)).abs().reshape(groups, -1)
    means, peaks = magnitudes.mean(1), magnitudes.amax(1)
    squares = torch.linalg.vecdot(magnitudes, magnitudes) / magnitudes.shape[1]
    return torch.stack((means, squares, magnitudes.sign_().mean(1), peaks), 1)


def _looked_at(x: Tensor, channels_last: bool) -> Tensor:
    """What is looked at of an activation, a view of it whose sides run as they do in memory."""
    if x.ndim != 4:
        return x
    seen = x[:, :, ::SPACING, ::SPACING]
    return seen.movedim(1, 3) if channels_last else seen


class _Moments(torch.autograd.Function):
    """As :func:`_moments`; holds nothing but the activation, and fills its gradient once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int) -> Tensor:
        moments = _moments(x, groups)
        ctx.save_for_backward(x, moments)
        return moments

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, moments = ctx.saved_tensors
        channels_last = is_channels_last(x)
        seen = _looked_at(x, channels_last)
        rows = seen.reshape(len(moments), -1)
        to_mean, to_square, _, to_peak = gradient[:, :, None].unbind(1)
        slope = (rows.abs() == moments[:, 3:]).to(rows)  # what is largest shares the peak's
        slope.mul_(to_peak / slope.sum(1, keepdim=True)).add_(to_mean / rows.shape[1])
        slope.mul_(rows.sign()).addcmul_(rows, to_square * (2 / rows.shape[1]))
        to_x = torch.zeros_like(x)
        _looked_at(to_x, channels_last).copy_(slope.view(seen.shape))
        return to_x, None


def _features(moments: Tensor, reach: Tensor) -> Tensor:
    mean, square, share, peak = moments.unbind(1)
    # the gradient of a square root is infinite at zero
    root = torch.where(square > 0, square.clamp_min(1e-12).sqrt(), 0.0)
    features = (mean / reach, root / reach, share, peak / (2 * reach))
    return torch.stack(features, 1).clamp(0, 1)
