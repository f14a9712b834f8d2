"""Parts of a batch computed apart, in no more memory in training than the batch together takes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a place of a feature map (N, C, H, W) lie next to each other."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def take_rows(x: Tensor, order: Tensor) -> Tensor:
    """``x[order]``, by whole rows of memory, which also keeps the channels-last layout."""
    if not is_channels_last(x):
        return x.index_select(0, order)
    shape = (len(order), *x.shape[1:])
    taken = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    torch.index_select(_rows(x), 0, order, out=_rows(taken))
    return taken


def computed_apart(
    x: Tensor,
    parts: Sequence[Tensor],
    compute: Callable[[Tensor, int], Tensor],
    padded: Callable[[int], int] | None = None,
) -> Tensor:
    """What is computed of each part of a batch, one batch again.

    Where gradients are enabled, nothing but ``x`` is kept of what is handed out: rows are taken
    anew when they are gone back to. So ``x`` must not be written into before the backward pass.

    Args:
        x: shape (N, ...).
        parts: the images of each part, int64; each from 0 to N - 1 is in one of them.
        compute: of rows (n, ...), and of the number of their part, from 0.
        padded: without gradients, how many rows are computed where there are so many; what is
            added is a row of the part once more, and is left out of the result.
    """
    if torch.is_grad_enabled():
        order = torch.cat(list(parts))
        with _in_order(x, order) as rows:
            split = rows.split([len(part) for part in parts])
            together = torch.cat([compute(own, number) for number, own in enumerate(split)])
        reordered: Tensor = _Reorder.apply(together, order.argsort())
        return reordered

    def pieces() -> Iterator[Tensor]:
        for number, part in enumerate(parts):
            more = 0 if padded is None else padded(len(part)) - len(part)
            own = torch.cat([part, part[:1].expand(more)]) if more else part
            yield compute(take_rows(x, own), number)[: len(part)]

    return _put_rows(pieces(), parts)


def _put_rows(pieces: Iterable[Tensor], places: Sequence[Tensor]) -> Tensor:
    """One batch of pieces, each of which is let go of before the next one needs memory."""
    batch: Tensor | None = None
    for piece, own in zip(pieces, places, strict=True):
        if batch is None:
            last = torch.channels_last if is_channels_last(piece) else torch.contiguous_format
            shape = (sum(map(len, places)), *piece.shape[1:])
            batch = torch.empty(shape, dtype=piece.dtype, device=piece.device, memory_format=last)
        _rows(batch).index_copy_(0, own, _rows(piece))
    assert batch is not None
    return batch


@contextmanager
def _in_order(x: Tensor, order: Tensor) -> Iterator[Tensor]:
    """Rows of ``x`` in another order, which are not saved within the block; ``x`` is."""
    rows: Tensor = _Reorder.apply(x, order)
    memory, layout, held = rows.untyped_storage().data_ptr(), rows.stride(), x.detach()
    version = x._version

    def pack(tensor: Tensor) -> Tensor | _Taken:
        same = tensor.untyped_storage().data_ptr() == memory
        if not same or tensor.stride() != layout or tensor.shape[1:] != x.shape[1:]:
            return tensor
        first = tensor.storage_offset() // layout[0]
        return _Taken(held, order[first : first + len(tensor)], version)

    with torch.autograd.graph.saved_tensors_hooks(pack, _unpack):
        yield rows


@dataclass(frozen=True)
class _Taken:
    """Rows of a tensor that are taken when they are asked for."""

    x: Tensor
    order: Tensor
    version: int


def _unpack(kept: Tensor | _Taken) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    if kept.x._version != kept.version:
        raise RuntimeError("what a layer received was written into before the backward pass")
    return take_rows(kept.x, kept.order)


def _rows(x: Tensor) -> Tensor:
    """A batch as a matrix of one row for each image, a view where it lies so in memory."""
    return (x.permute(0, 2, 3, 1) if is_channels_last(x) else x).flatten(1)


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
