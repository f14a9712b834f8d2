"""A few pooled numbers of an activation: what a layer is about to receive."""

import torch
from torch import Tensor

from dqmq_env.evaluation.statistic_table import SPACING


def activation_statistics(x: Tensor, reach: Tensor, groups: int = 1) -> Tensor:
    """The :data:`ACTIVATION_STATISTICS` of the activation of each group of images, in [0, 1].

    ``mean`` is the mean magnitude, ``rms`` the root mean square, both as fractions of ``reach``;
    ``nonzero`` is the share of values that are not zero; ``peak`` is half the largest magnitude as
    a fraction of ``reach``, so that 0.5 is what calibration saw. Feature maps are looked at in
    every second row and column. Gradients flow through all but ``nonzero``.

    Args:
        x: activation, shape (N, ...).
        reach: the largest magnitude seen in calibration, a scalar above zero.
        groups: G, which divides N; consecutive images form a group.

    Returns:
        Shape (G, 4).
    """
    if x.ndim == 4:
        x = x[:, :, ::SPACING, ::SPACING]
    rows = x.reshape(groups, -1)
    count = rows.shape[1]
    magnitudes = rows.abs()
    squares = torch.linalg.vecdot(rows, rows) / count
    # the gradient of a square root is infinite at zero
    roots = torch.where(squares > 0, squares.clamp_min(1e-12).sqrt(), 0.0)
    features = (
        magnitudes.mean(1) / reach,
        roots / reach,
        rows.count_nonzero(1) / count,
        magnitudes.amax(1) / (2 * reach),
    )
    return torch.stack(features, 1).clamp(0, 1)
