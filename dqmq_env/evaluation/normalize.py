"""From the images of a camera to the input of a network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dqmq_env.errors import SettingError


class Normalize(nn.Module):
    """Map uint8 or [0, 1] float images to ``(x - mean) / std`` per channel, float32.

    Args:
        mean: per channel, on the [0, 1] scale.
        std: per channel, on the [0, 1] scale, above zero.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not len(mean) or not all(value > 0 for value in std):
            raise SettingError(f"std: got mean {mean} and std {std}, allowed: as many, std above 0")
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape (N, C, H, W) to float32 of the same shape, channels last in memory."""
        x = images.to(torch.float32)
        if images.dtype == torch.uint8:
            x = x / 255
        return ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
