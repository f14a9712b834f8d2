"""What this package takes as images, and the conversions between their types."""

import torch
from torch import Tensor

from dqmq_env.errors import DataError

# JPEG's block; below it blur kernels and blockiness lose their meaning.
MIN_SIDE = 8


def check_images(images: Tensor) -> None:
    """Refuse what is no batch of images.

    Args:
        images: Must be (N, C, H, W), C in {1, 3}, H and W at least 8; uint8, or floating point
            in [0, 1].

    Raises:
        DataError: It is something else.
    """
    if not isinstance(images, Tensor):
        raise DataError(f"images: got {type(images).__name__}, must be a torch.Tensor")
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[1] not in (1, 3):
        raise DataError(f"images: got shape {shape}, must be (N, C, H, W) with C 1 or 3")
    if min(shape[2:]) < MIN_SIDE:
        raise DataError(f"images: got shape {shape}, must be at least {MIN_SIDE} pixels each way")
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise DataError(f"images: got {images.dtype}, must be torch.uint8 or floating point")
    if len(images):
        low, high = (float(bound) for bound in torch.aminmax(images))
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"images: got values from {low} to {high}, must be in [0, 1] if not torch.uint8"
            )


def to_unit(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1]; may share memory with `images`."""
    if images.dtype == torch.uint8:
        return images.float().div_(255)
    return images.float()


def from_unit(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Float32 values as images of `dtype`: cut to [0, 1], rounded to 8 bits where it is uint8."""
    values = values.clamp(0, 1)
    if dtype == torch.uint8:
        return values.mul_(255).round_().to(torch.uint8)
    return values.to(dtype)
