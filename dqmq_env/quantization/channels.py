"""Activations with their channels second, as convolutions have them and linear layers may not."""

from collections.abc import Callable

from torch import Tensor


def channels_second(x: Tensor, axis: int) -> Tensor:
    """A view of the shape (N, C, ...).

    Args:
        x: a batch.
        axis: where its channels are, see
            :attr:`~dqmq_env.quantization.spec.LayerSpec.channel_axis`.
    """
    return x if axis == 1 or x.ndim == 2 else x.movedim(axis, 1)


def on_channels(change: Callable[[Tensor], Tensor], x: Tensor, axis: int) -> Tensor:
    """What a change makes of :func:`channels_second`, with channels where they were.

    Args:
        change: keeps the order of axes.
        x: a batch.
        axis: where its channels are.
    """
    second = channels_second(x, axis)
    return change(second) if second is x else change(second).movedim(1, axis)
