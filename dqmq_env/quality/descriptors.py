"""Quality descriptors: numbers in [0, 1] that say, without a reference, how good an image is.

`DESCRIPTOR_TABLE` in `dqmq_env.quality.descriptor_table` has the formula and source of each.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

from dqmq_env.quality.descriptor_table import DESCRIPTOR_NAMES
from dqmq_env.quality.images import check_images, to_unit

_BLOCK: Final = 8
_LEVELS: Final = 256
_NOISE_HALF: Final = 0.1
_SHARPNESS_HALF: Final = 0.05
# A quarter of a grey level: without structure, blockiness is 0.5 rather than 0 / 0.
_BLOCKINESS_FLOOR: Final = 1 / 1020


def describe(images: Tensor) -> Tensor:
    """Describe the quality of each image by itself.

    Args:
        images: (N, C, H, W), C in {1, 3}, H and W at least 8; uint8, or floating point in [0, 1].

    Returns:
        float32 (N, 6) in [0, 1] on the device of `images`, columns as in `DESCRIPTOR_NAMES`.

    Raises:
        DataError: `images` is no batch of images.
    """
    check_images(images)
    if images.shape[0] == 0:
        return images.new_zeros((0, len(DESCRIPTOR_NAMES)), dtype=torch.float32)
    luma = _luma(to_unit(images))
    columns = [_MEASURES[name](luma) for name in DESCRIPTOR_NAMES]
    # Formulas stay in [0, 1]; rounding may step over the ends by one unit in the last place.
    return torch.stack(columns, dim=1).clamp_(0, 1)


def _luma(values: Tensor) -> Tensor:
    """(N, C, H, W) in [0, 1] to luma (N, H, W); weights of ITU-R BT.601."""
    if values.shape[1] == 1:
        return values[:, 0]
    red, green, blue = values.unbind(dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _second_difference(luma: Tensor, dim: int) -> Tensor:
    """Correlation with [1, -2, 1] along `dim`, shorter by 2 there."""
    size = luma.shape[dim] - 2
    before, here, after = (luma.narrow(dim, start, size) for start in range(3))
    return (before + after).sub_(here, alpha=2)


def _variance(values: Tensor) -> Tensor:
    """Of each image by itself, (N, H, W) to (N,); in two passes, `Tensor.var` is slow over rows."""
    centred = values - values.mean(dim=(1, 2), keepdim=True)
    return centred.square_().mean(dim=(1, 2))


def _noise(luma: Tensor) -> Tensor:
    # Immerkaer's mask is the outer product of [1, -2, 1] with itself.
    response = _second_difference(_second_difference(luma, 1), 2)
    sigma = response.abs_().mean(dim=(1, 2)) * (math.sqrt(math.pi / 2) / 6)
    return sigma / (sigma + _NOISE_HALF)


def _sharpness(luma: Tensor) -> Tensor:
    laplacian = _second_difference(luma[:, :, 1:-1], 1) + _second_difference(luma[:, 1:-1], 2)
    variance = _variance(laplacian)
    return variance / (variance + _SHARPNESS_HALF)


def _contrast(luma: Tensor) -> Tensor:
    return 2 * _variance(luma).sqrt()


def _luminance(luma: Tensor) -> Tensor:
    return luma.mean(dim=(1, 2))


def _entropy(luma: Tensor) -> Tensor:
    levels = luma.flatten(1).mul(_LEVELS - 1).round_().long()
    one = luma.new_ones(()).expand(levels.shape)
    histogram = luma.new_zeros(luma.shape[0], _LEVELS).scatter_add_(1, levels, one)
    shares = histogram / luma[0].numel()
    nats: Tensor = torch.special.entr(shares).sum(dim=1)
    return nats / math.log(_LEVELS)


def _blockiness(luma: Tensor) -> Tensor:
    across, inside = luma.new_zeros(luma.shape[:1]), luma.new_zeros(luma.shape[:1])
    for dim in (1, 2):
        steps = luma.diff(dim=dim).abs_().mean(dim=3 - dim)
        places = range(luma.shape[dim] - 1)
        at_border = [place for place in places if (place + 1) % _BLOCK == 0]
        if at_border:
            others = [place for place in places if (place + 1) % _BLOCK]
            across += steps[:, at_border].mean(dim=1) / 2
            inside += steps[:, others].mean(dim=1) / 2
    return (across + _BLOCKINESS_FLOOR) / (across + inside + 2 * _BLOCKINESS_FLOOR)


_MEASURES: Final[Mapping[str, Callable[[Tensor], Tensor]]] = MappingProxyType(
    {
        "noise": _noise,
        "sharpness": _sharpness,
        "contrast": _contrast,
        "luminance": _luminance,
        "entropy": _entropy,
        "blockiness": _blockiness,
    }
)
