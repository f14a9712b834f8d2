"""How a batch lies in memory."""

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a place of a feature map (N, C, H, W) lie next to each other."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
