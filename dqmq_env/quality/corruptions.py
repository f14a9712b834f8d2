"""Corruptions of images, after ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261).

Each has five severities. The constants are ImageNet-C's where they do not depend on the size of
the image, and between those of CIFAR-10-C and ImageNet-C otherwise. All random numbers come from
a generator on the CPU, so that they are the same whatever device the images are on.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from dqmq_env.errors import DataError, SettingError
from dqmq_env.quality.condition import CLEAN, Condition
from dqmq_env.quality.images import check_images, from_unit, to_unit

CONSTANTS: Final[Mapping[str, tuple[float, float, float, float, float]]] = MappingProxyType(
    {
        # Standard deviation on the [0, 1] scale; ImageNet-C's.
        "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
        # Photons that a white pixel receives; ImageNet-C's.
        "shot_noise": (60, 25, 12, 5, 3),
        # Standard deviation in pixels of an image whose shorter side is 32.
        "gaussian_blur": (0.5, 0.75, 1.0, 1.5, 2.0),
        # Length of the line in pixels of an image whose shorter side is 32.
        "motion_blur": (3, 5, 7, 9, 12),
        # Stops of exposure: every stop halves (darkness) or doubles (overexposure) the light.
        "brightness": (0.5, 1.0, 1.5, 2.25, 3.0),
        "darkness": (0.5, 1.0, 1.5, 2.25, 3.0),
        "overexposure": (0.5, 1.0, 1.5, 2.25, 3.0),
        # Share of the contrast that is left.
        "contrast": (0.6, 0.4, 0.25, 0.15, 0.08),
        # Side of the coarse image as a share of the image's side.
        "pixelate": (0.75, 0.6, 0.5, 0.4, 0.3),
        # Quality of libjpeg; ImageNet-C's.
        "jpeg": (25, 18, 15, 10, 7),
    }
)

_REFERENCE_SIDE: Final = 32
_MIN_SIGMA: Final = 0.3
_MIN_LENGTH: Final = 2.0


def corrupt(images: Tensor, condition: Condition | str, *, generator: Generator | int) -> Tensor:
    """The images as a worse camera would have given them.

    Args:
        images: (N, C, H, W), C in {1, 3}, H and W at least 8; uint8, or floating point in [0, 1].
        condition: What to do to all of them; `clean` gives back a copy.
        generator: Source of the random numbers, on the CPU, or the seed of a fresh one. Equal
            state, images and condition give equal results.

    Returns:
        New tensor of the same type, shape and device. uint8 images stay 8-bit: the result is
        rounded, as a camera's would be.

    Raises:
        DataError: `images` is no batch of images.
        ConditionError: `condition` is none.
        SettingError: `generator` is not on the CPU.
    """
    check_images(images)
    condition = Condition.parse(condition)
    generator = _as_generator(generator)
    if condition == CLEAN or len(images) == 0:
        return images.clone()
    constant = CONSTANTS[condition.corruption][condition.severity - 1]
    values = _OPERATIONS[condition.corruption](to_unit(images), constant, generator)
    return from_unit(values, images.dtype)


def corrupt_each(
    images: Tensor, conditions: Sequence[Condition | str], *, generator: Generator | int
) -> Tensor:
    """Image i under `conditions[i]`.

    Images of equal condition are corrupted together, group after group in the sort order of
    conditions, all from one generator.

    Args:
        images: As `corrupt` takes them.
        conditions: One for each image.
        generator: As `corrupt` takes it.

    Returns:
        New tensor of the same type, shape and device.

    Raises:
        DataError: `images` is no batch of images, or `conditions` differs from it in length.
        ConditionError: One of `conditions` is none.
        SettingError: `generator` is not on the CPU.
    """
    check_images(images)
    if len(conditions) != len(images):
        raise DataError(f"conditions: got {len(conditions)}, must be one an image ({len(images)})")
    generator = _as_generator(generator)
    members: dict[Condition, list[int]] = {}
    for position, condition in enumerate(conditions):
        members.setdefault(Condition.parse(condition), []).append(position)
    result = torch.empty_like(images)
    for condition in sorted(members):
        index = torch.tensor(members[condition], device=images.device)
        result[index] = corrupt(images[index], condition, generator=generator)
    return result


def _gaussian_noise(images: Tensor, sigma: float, generator: Generator) -> Tensor:
    # Not torchvision's gaussian_noise, which cannot take a generator.
    noise = torch.randn(images.shape, generator=generator)
    return images + sigma * noise.to(images.device)


def _shot_noise(images: Tensor, photons: float, generator: Generator) -> Tensor:
    counts = torch.poisson(images.cpu() * photons, generator=generator)
    return (counts / photons).to(images.device)


def _gaussian_blur(images: Tensor, sigma: float, generator: Generator) -> Tensor:
    sigma = max(sigma * _scale(images), _MIN_SIGMA)
    size = 2 * math.ceil(3 * sigma) + 1
    # One direction after the other is the same filter at a fraction of the operations, and many
    # channels of one image are convolved several times faster than many images of one channel.
    stacked = images.reshape(1, -1, *images.shape[-2:])
    across = transforms.gaussian_blur(stacked, [size, 1], [sigma, sigma])
    blurred: Tensor = transforms.gaussian_blur(across, [1, size], [sigma, sigma])
    return blurred.view_as(images)


def _motion_blur(images: Tensor, length: float, generator: Generator) -> Tensor:
    """Average over a line of the given length whose angle is drawn for each image."""
    count, channels, height, width = images.shape
    length = max(length * _scale(images), _MIN_LENGTH)
    angles = torch.rand(count, generator=generator) * math.pi
    kernels = _line_kernels(length, angles).to(images.device)
    radius = kernels.shape[-1] // 2
    # Every image has its own kernel, so images become channels of one depthwise convolution.
    stacked = images.reshape(1, count * channels, height, width)
    padded = functional.pad(stacked, (radius,) * 4, mode="replicate")
    weights = kernels.repeat_interleave(channels, dim=0).unsqueeze(1)
    blurred = functional.conv2d(padded, weights, groups=count * channels)
    return blurred.view_as(images)


def _line_kernels(length: float, angles: Tensor) -> Tensor:
    """Anti-aliased lines one pixel wide through the middle, each kernel of sum 1: (N, K, K)."""
    radius = math.ceil((length - 1) / 2)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    cosine, sine = angles.cos().view(-1, 1, 1), angles.sin().view(-1, 1, 1)
    rows, columns = offsets.view(1, -1, 1), offsets.view(1, 1, -1)
    along = (columns * cosine + rows * sine).abs()
    across = (rows * cosine - columns * sine).abs()
    weights = (length / 2 + 0.5 - along).clamp(0, 1) * (1 - across).clamp(min=0)
    return weights / weights.sum(dim=(1, 2), keepdim=True)


def _brightness(images: Tensor, stops: float, generator: Generator) -> Tensor:
    """A fair coin for each image: too little light or too much."""
    darker = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(
        darker.to(images.device).view(-1, 1, 1, 1),
        _darkness(images, stops, generator),
        _overexposure(images, stops, generator),
    )


def _darkness(images: Tensor, stops: float, generator: Generator) -> Tensor:
    darker: Tensor = transforms.adjust_brightness(images, 2**-stops)
    return darker


def _overexposure(images: Tensor, stops: float, generator: Generator) -> Tensor:
    brighter: Tensor = transforms.adjust_brightness(images, 2**stops)
    return brighter


def _contrast(images: Tensor, share: float, generator: Generator) -> Tensor:
    flatter: Tensor = transforms.adjust_contrast(images, share)
    return flatter


def _pixelate(images: Tensor, share: float, generator: Generator) -> Tensor:
    size = list(images.shape[-2:])
    coarse = transforms.resize(images, [max(1, round(side * share)) for side in size])
    pixelated: Tensor = transforms.resize(coarse, size, InterpolationMode.NEAREST_EXACT)
    return pixelated


def _jpeg(images: Tensor, quality: float, generator: Generator) -> Tensor:
    # Pillow, because torchvision 0.29 deprecates its own codec; on the CPU whatever the device.
    pixels = from_unit(images.cpu(), torch.uint8).permute(0, 2, 3, 1).numpy()
    decoded = np.stack([_through_jpeg(picture, int(quality)) for picture in pixels])
    return to_unit(torch.from_numpy(decoded).permute(0, 3, 1, 2)).to(images.device)


def _through_jpeg(picture: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """A picture of shape (H, W, C), compressed and read back."""
    file = io.BytesIO()
    Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(
        file, "JPEG", quality=quality
    )
    return np.array(Image.open(file), np.uint8).reshape(picture.shape)


_OPERATIONS: Final[Mapping[str, Callable[[Tensor, float, Generator], Tensor]]] = MappingProxyType(
    {
        "gaussian_noise": _gaussian_noise,
        "shot_noise": _shot_noise,
        "gaussian_blur": _gaussian_blur,
        "motion_blur": _motion_blur,
        "brightness": _brightness,
        "darkness": _darkness,
        "overexposure": _overexposure,
        "contrast": _contrast,
        "pixelate": _pixelate,
        "jpeg": _jpeg,
    }
)


def _scale(images: Tensor) -> float:
    return min(images.shape[-2:]) / _REFERENCE_SIDE


def _as_generator(generator: Generator | int) -> Generator:
    if not isinstance(generator, Generator):
        return torch.Generator().manual_seed(generator)
    if generator.device.type != "cpu":
        raise SettingError(f"generator: got one on {generator.device}, must be on the CPU")
    return generator
