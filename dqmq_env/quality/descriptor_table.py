"""What each quality descriptor measures, where it comes from, and what it costs to compute.

No torch in here: environments that replay tables read the names and prices alone. The functions
are in `dqmq_env.quality.descriptors`.
"""

from dataclasses import dataclass
from typing import Final

from dqmq_env.errors import DataError

_BITS = 8


@dataclass(frozen=True)
class DescriptorEntry:
    """One number that `describe` gives for each image.

    Attributes:
        name: Its name, as features of observations use it.
        formula: From the luma Y in [0, 1] of an image to a number in [0, 1].
        source: Where the measure was published.
        response: What it does as images get worse.
        operations_per_pixel: Multiply-accumulates for each pixel of the luma; an addition, a
            comparison or an absolute value alone counts as one.
        operations_per_image: What comes on top, whatever the size.
        products_per_pixel: How many of the operations for each pixel are multiplications.
    """

    name: str
    formula: str
    source: str
    response: str
    operations_per_pixel: int
    operations_per_image: int = 0
    products_per_pixel: int = 0


DESCRIPTOR_TABLE: Final = (
    DescriptorEntry(
        name="noise",
        formula="s / (s + 0.1), s = sqrt(pi / 2) / 6 * mean |Y * [1 -2 1; -2 4 -2; 1 -2 1]|",
        source="Immerkaer 1996, Fast Noise Variance Estimation, CVIU 64(2)",
        response="rises with gaussian_noise and shot_noise",
        operations_per_pixel=6,  # second difference along rows, 2; of that along columns, 2; |.|, +
    ),
    DescriptorEntry(
        name="sharpness",
        formula="v / (v + 0.05), v = variance of Y * [0 1 0; 1 -4 1; 0 1 0]",
        source="Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield microscopy, ICPR",
        response="falls with gaussian_blur and motion_blur",
        operations_per_pixel=7,  # two second differences, 4; their sum; mean; squared deviation
        products_per_pixel=1,
    ),
    DescriptorEntry(
        name="contrast",
        formula="2 * standard deviation of Y",
        source="Peli 1990, Contrast in complex images, JOSA A 7(10): RMS contrast",
        response="falls with contrast",
        operations_per_pixel=3,  # mean; deviation; square
        products_per_pixel=1,
    ),
    DescriptorEntry(
        name="luminance",
        formula="mean of Y",
        source="ITU-R BT.601 for the luma of colour images",
        response="falls with darkness, rises with overexposure",
        operations_per_pixel=1,
    ),
    DescriptorEntry(
        name="entropy",
        formula="-sum p log2 p / 8, p = histogram of Y over the 256 levels of 8 bits",
        source="Shannon 1948, A mathematical theory of communication",
        response="falls with contrast, as fewer levels are in use",
        operations_per_pixel=2,  # round; count
        operations_per_image=3 * 256,  # divide, logarithm, multiply-accumulate
    ),
    DescriptorEntry(
        name="blockiness",
        formula="(B + e) / (A + B + 2e), e = 1 / 1020; B and A = mean |difference of neighbours| "
        "across and inside the borders of 8x8 blocks, horizontal and vertical averaged; 0.5 where "
        "there are no blocks",
        source="Wang, Sheikh, Bovik 2002, No-reference perceptual quality assessment of JPEG "
        "compressed images, ICIP: their features B and A, as a ratio",
        response="rises with jpeg",
        operations_per_pixel=6,  # difference, |.|, + in two directions
    ),
)

DESCRIPTOR_NAMES: Final = tuple(entry.name for entry in DESCRIPTOR_TABLE)


def descriptor_operations(height: int, width: int, channels: int) -> int:
    """Multiply-accumulates that all descriptors of one image take, to charge a controller with.

    H W (C + [3 if C = 3] + 25) + 768: every channel is scaled to [0, 1], colour is turned into
    luma, then each descriptor takes what `DESCRIPTOR_TABLE` says. Borders are not subtracted, so
    this is slightly too high rather than too low.

    Args:
        height: H in pixels, 1 or more.
        width: W in pixels, 1 or more.
        channels: C, 1 or 3.

    Raises:
        DataError: An argument is outside its range.
    """
    if height < 1 or width < 1:
        raise DataError(f"height, width: got {height} and {width}, must be 1 or more")
    if channels not in (1, 3):
        raise DataError(f"channels: got {channels}, must be 1 or 3")
    luma = channels if channels == 1 else 2 * channels
    per_pixel = luma + sum(entry.operations_per_pixel for entry in DESCRIPTOR_TABLE)
    per_image = sum(entry.operations_per_image for entry in DESCRIPTOR_TABLE)
    return height * width * per_pixel + per_image


def descriptor_bops(height: int, width: int, channels: int) -> int:
    """Bit operations of all descriptors of one image, on 8-bit numbers.

    Of the operations that :func:`descriptor_operations` counts, multiplications take 8 x 8 (scaling
    and luma among them), additions and comparisons 8, and what comes once for an image 8 x 8.

    Args:
        height: H in pixels, 1 or more.
        width: W in pixels, 1 or more.
        channels: C, 1 or 3.

    Raises:
        DataError: An argument is outside its range.
    """
    operations = descriptor_operations(height, width, channels)
    per_image = sum(entry.operations_per_image for entry in DESCRIPTOR_TABLE)
    luma = channels if channels == 1 else 2 * channels
    per_pixel = luma + sum(entry.products_per_pixel for entry in DESCRIPTOR_TABLE)
    products = height * width * per_pixel + per_image
    return products * _BITS * _BITS + (operations - products) * _BITS
