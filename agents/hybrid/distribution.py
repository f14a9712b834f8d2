"""A continuous distribution over ordered bit-widths, discretised."""

from collections.abc import Sequence

import torch
from torch import Tensor

_NEGLIGIBLE = 1e-4


def discretized_logistic(location: Tensor, scale: Tensor, widths: Sequence[float]) -> Tensor:
    """Probabilities of ordered widths under a logistic distribution.

    A width gets the mass between the midpoints to its neighbours, the outermost ones the tails:
    ``p_k = F((m_k - location) / scale) - F((m_{k-1} - location) / scale)`` with F the logistic
    function. Two numbers thus stand for a distribution over any number of widths, and a width can
    only gain mass through its neighbours. Masses below 1e-4 are set to zero.

    Args:
        location: in bits, shape (G,).
        scale: in bits, above zero, shape (G,) or ().
        widths: K candidate bits, ascending.

    Returns:
        Shape (G, K), rows summing to one.
    """
    points = torch.tensor(widths, dtype=location.dtype, device=location.device)
    midpoints = (points[1:] + points[:-1]) / 2
    scales = scale.expand_as(location)[:, None]
    below = torch.sigmoid((midpoints - location[:, None]) / scales)
    ends = torch.zeros_like(location)[:, None]
    mass = torch.diff(torch.cat([ends, below, ends + 1], 1), dim=1)
    mass = torch.where(mass < _NEGLIGIBLE, 0.0, mass)
    return mass / mass.sum(1, keepdim=True)
