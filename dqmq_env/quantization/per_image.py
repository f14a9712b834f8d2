"""A layer on a batch whose images have bits of their own."""

from collections.abc import Callable

import torch
from torch import Tensor

from dqmq_env.errors import AssignmentError
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.credit import take_rows


@torch.no_grad()
def compute_per_image(
    layer_at: Callable[[Tensor, LayerBits], Tensor], x: Tensor, bits: tuple[LayerBits, ...]
) -> Tensor:
    """The layer's output, without gradients; images with equal bits are computed together.

    Args:
        layer_at: computes the layer on some images at the same bits.
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
    pieces = []
    for pair, rows in images.items():
        padding = rows[:1] * (_padded(len(rows)) - len(rows))
        together = take_rows(x, torch.tensor(rows + padding))
        pieces.append(layer_at(together, pair)[: len(rows)])
    order = torch.tensor([number for rows in images.values() for number in rows])
    return take_rows(torch.cat(pieces), order.argsort())


def _padded(count: int) -> int:
    """The number of images that go through the layer where ``count`` are asked for.

    Never one, as kernels for a single image round in another way; and one of few numbers, as
    kernels are compiled for each.
    """
    return max(2, 1 << (count - 1).bit_length()) if count <= 16 else -(-count // 16) * 16
