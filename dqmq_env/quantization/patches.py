"""What a layer multiplies its weights with, as rows of a matrix, at a sample of positions."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dqmq_env.quantization.layer import QuantizedLayer


@dataclass(frozen=True)
class Patches:
    """Inputs of a layer at some positions: its output there is ``patches @ weight.T``.

    G groups of a convolution (1 for a linear layer) have matrices of their own, whose columns are
    ordered as in ``weight.reshape(G, out_channels / G, columns)``.

    Attributes:
        fitted: from the first four fifths of the images, shape (G, n, columns).
        held_out: from the others, or from the same ones where there are fewer than five.
    """

    fitted: Tensor
    held_out: Tensor

    def thinned(self, count: int) -> "Patches":
        """At most ``count`` of either kind, evenly spaced."""
        return Patches(
            self.fitted[:, :: -(-self.fitted.shape[1] // count)],
            self.held_out[:, :: -(-self.held_out.shape[1] // count)],
        )

    def each(self, change: Callable[[Tensor], Tensor]) -> "Patches":
        """Both kinds changed by a function."""
        return Patches(change(self.fitted), change(self.held_out))

    @classmethod
    def joined(cls, parts: "list[Patches]") -> "Patches":
        """Those of several uses of a layer."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([part.fitted for part in parts], 1),
            torch.cat([part.held_out for part in parts], 1),
        )


def divide(x: Tensor) -> tuple[Tensor, Tensor]:
    """The first four fifths of images, and the others; all of them twice, if fewer than five."""
    fitted = len(x) - len(x) // 5
    return x[:fitted], x[fitted % len(x) :]


def take_patches(layer: QuantizedLayer, x: Tensor, count: int) -> Patches:
    """Sample patches of a layer's input, the same ones for the same layer and shapes.

    Args:
        layer: gives the kernel.
        x: what it receives, shape (N, ...).
        count: of positions to fit at; a quarter as many are held out. All positions are taken where
            there are fewer.
    """
    generator = torch.Generator().manual_seed(layer.index)
    fitted, held_out = divide(x)
    return Patches(
        _sample(layer.inner, fitted, count, generator),
        _sample(layer.inner, held_out, -(-count // 4), generator),
    )


def _sample(
    inner: nn.Conv2d | nn.Linear, x: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    if isinstance(inner, nn.Linear):
        rows = x.reshape(-1, x.shape[-1])
        return rows[_positions(len(rows), count, generator).to(x.device)][None]
    mode = "constant" if inner.padding_mode == "zeros" else inner.padding_mode
    padded = F.pad(x, inner._reversed_padding_repeated_twice, mode).permute(0, 2, 3, 1)
    (kernel, across), (stride, stride_across) = inner.kernel_size, inner.stride
    dilation, dilation_across = inner.dilation
    images, height, width, _ = padded.shape
    down_count = (height - dilation * (kernel - 1) - 1) // stride + 1
    across_count = (width - dilation_across * (across - 1) - 1) // stride_across + 1
    chosen = _positions(images * down_count * across_count, count, generator).to(x.device)
    top = chosen // across_count % down_count * stride
    left = chosen % across_count * stride_across
    down = top[:, None] + torch.arange(kernel, device=x.device) * dilation
    right = left[:, None] + torch.arange(across, device=x.device) * dilation_across
    image = chosen // (down_count * across_count)
    patches = padded[image[:, None, None], down[:, :, None], right[:, None, :]]
    grouped = patches.reshape(len(chosen), kernel * across, inner.groups, -1)
    return grouped.permute(2, 0, 3, 1).reshape(inner.groups, len(chosen), -1)


def _positions(available: int, count: int, generator: torch.Generator) -> Tensor:
    if available <= count:
        return torch.arange(available)
    return torch.randint(available, (count,), generator=generator)
