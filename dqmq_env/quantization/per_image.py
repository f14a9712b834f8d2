"""A layer on a batch whose images have bits of their own."""

from collections.abc import Callable

import torch
from torch import Tensor

from dqmq_env.errors import AssignmentError
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.rows import computed_apart

LayerAt = Callable[[Tensor, LayerBits], Tensor]
"""Computes a layer on some images at the same bits."""


def compute_per_image(layer_at: LayerAt, x: Tensor, bits: tuple[LayerBits, ...]) -> Tensor:
    """The layer's output; images with equal bits are computed together.

    Args:
        layer_at: the layer.
        x: what the layer receives, shape (N, ...).
        bits: of each of the N images.

    Raises:
        AssignmentError: there are bits for another number of images.
    """
    if len(bits) != len(x):
        raise AssignmentError(f"bits: got bits for {len(bits)} images, the batch has {len(x)}")
    images: dict[LayerBits, list[int]] = {}
    for number, pair in enumerate(bits):
        images.setdefault(pair, []).append(number)
    if len(images) == 1:
        return layer_at(x, bits[0])
    pairs, parts = list(images), [torch.tensor(rows, device=x.device) for rows in images.values()]
    return computed_apart(x, parts, lambda own, k: layer_at(own, pairs[k]), _padded)


def _padded(count: int) -> int:
    """The number of images that go through the layer where ``count`` are asked for.

    Never one, as kernels for a single image round in another way; and one of few numbers, as
    kernels are compiled for each.
    """
    return max(2, 1 << (count - 1).bit_length()) if count <= 16 else -(-count // 16) * 16
