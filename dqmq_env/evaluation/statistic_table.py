"""Names and price of the activation statistics; free of torch."""

import math

from dqmq_env.quantization.spec import LayerSpec

ACTIVATION_STATISTICS = ("mean", "rms", "nonzero", "peak")

SPACING = 2
"""Statistics look at every second row and column of a feature map."""

_BITS = 8


def statistics_bops(spec: LayerSpec) -> int:
    """Bit operations for the statistics of what a layer receives of one image.

    For each value looked at: an addition for the mean and a comparison each for the share of
    non-zeros and the peak (8 bit operations each, values having 8 bits), and a
    multiply-accumulate for the root mean square (8 x 8).
    """
    return _looked_at(spec) * (3 * _BITS + _BITS * _BITS)


def channel_means_bops(spec: LayerSpec) -> int:
    """Bit operations for the channel means of what a layer receives of one image.

    They are an addition for each value looked at.
    """
    return _looked_at(spec) * _BITS


def image_cells_bops(shape: tuple[int, ...]) -> int:
    """Bit operations for the cells of one image of shape (C, H, W).

    For each value an addition for the mean (8 bit operations), a square (8 x 8) and its addition
    (16).
    """
    return math.prod(shape) * (3 * _BITS + _BITS * _BITS)


def _looked_at(spec: LayerSpec) -> int:
    sides = spec.input_sides
    spacing = SPACING if len(sides) == 2 else 1
    return spec.in_channels * math.prod(math.ceil(side / spacing) for side in sides)
