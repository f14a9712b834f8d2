"""Rows of a batch in another order, which cost no memory in training beside the batch itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def take_rows(x: Tensor, order: Tensor) -> Tensor:
    """``x[order]``, by whole rows of memory, which also keeps the channels-last layout."""
    if x.ndim != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        return x.index_select(0, order)
    shape = (len(order), *x.shape[1:])
    taken = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    source, target = (tensor.permute(0, 2, 3, 1).flatten(1) for tensor in (x, taken))
    torch.index_select(source, 0, order, out=target)
    return taken


def reorder(x: Tensor, order: Tensor) -> Tensor:
    """Rows of ``x`` in another order, in the memory layout of ``x``.

    Args:
        x: shape (N, ...).
        order: a permutation of 0 to N - 1, int64.
    """
    reordered: Tensor = _Reorder.apply(x, order)
    return reordered


@contextmanager
def in_order(x: Tensor, order: Tensor) -> Iterator[Tensor]:
    """Rows of ``x`` in another order, of which nothing is kept for the backward pass but ``x``.

    What is computed of them within the block, and saves them or consecutive rows of them, takes
    them anew when it is gone back to.

    Args:
        x: shape (N, ...); not to be written into before the backward pass.
        order: a permutation of 0 to N - 1, int64.
    """
    rows = reorder(x, order)
    if not torch.is_grad_enabled():
        yield rows
        return
    memory, layout, held = rows.untyped_storage().data_ptr(), rows.stride(), x.detach()
    version = x._version

    def pack(tensor: Tensor) -> "Tensor | _Rows":
        same = tensor.untyped_storage().data_ptr() == memory
        if not same or tensor.stride() != layout or tensor.shape[1:] != x.shape[1:]:
            return tensor
        first = tensor.storage_offset() // layout[0]
        return _Rows(held, order[first : first + len(tensor)], version)

    with torch.autograd.graph.saved_tensors_hooks(pack, _unpack):
        yield rows


@dataclass(frozen=True)
class _Rows:
    """Rows of a tensor that are taken when they are asked for."""

    x: Tensor
    order: Tensor
    version: int


def _unpack(kept: Tensor | _Rows) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    if kept.x._version != kept.version:
        raise RuntimeError("what a layer received was written into before the backward pass")
    return take_rows(kept.x, kept.order)


class _Reorder(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return take_rows(x, order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return take_rows(gradient, order.argsort()), None
