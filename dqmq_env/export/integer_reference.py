"""What hardware with integer arithmetic would compute for one quantised layer, slowly and plainly.

Codes of the input times codes of the weight, summed up in integers, rescaled once per output
channel. Nothing is shared with fake quantisation but what a file would hold: the codes of the
weight, the steps and the bias.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn

from dqmq_env.export.integer_layer import integer_input, integer_weight
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.layer import QuantizedLayer

_UNIT_ROUNDOFF = 2.0**-24
_PADDING = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@dataclass(frozen=True)
class IntegerOutput:
    """A layer's output before and after the rescaling.

    Attributes:
        sums: of products of codes, exact, shape (N, O, H, W), or (N, ..., O) of a linear layer.
        magnitudes: the same sums over the products' magnitudes.
        terms: products in each sum.
        scale: of one unit of the sums, shape (O, 1, 1), or (O,) of a linear layer.
        bias: added last, of the shape of the scale.
    """

    sums: NDArray[np.int64]
    magnitudes: NDArray[np.int64]
    terms: int
    scale: NDArray[np.float64]
    bias: NDArray[np.float64]

    @property
    def values(self) -> NDArray[np.float64]:
        """The layer's output: ``scale * sums + bias``."""
        return self.scale * self.sums + self.bias

    @property
    def bound(self) -> NDArray[np.float64]:
        """How far the same layer, computed in float32 in any order, may lie from :attr:`values`.

        A float32 sum of n products errs by at most ``g(n) * sum |x w|`` where
        ``g(n) = n u / (1 - n u)`` and u is 2**-24 (Higham 2002, Accuracy and Stability of Numerical
        Algorithms, section 3.1). To n come the addition of the bias and, at most, four roundings of
        the factors: step times code of the input, the same of the weight, the factor of a folded
        batch norm there, and once more where the scale takes it in.
        """
        roundings = self.terms + 5
        growth = roundings * _UNIT_ROUNDOFF / (1 - roundings * _UNIT_ROUNDOFF)
        return growth * (abs(self.scale) * self.magnitudes + abs(self.bias))


def integer_output(layer: QuantizedLayer, x: Tensor, bits: LayerBits) -> IntegerOutput:
    """Compute a layer in integers.

    Args:
        layer: under any scheme, with steps from anywhere.
        x: what it receives, float32, shape (N, C, H, W), or (N, ..., C) of a linear layer.
        bits: less than float.

    Raises:
        AssignmentError: the bits are not among the candidates.
    """
    weight, received = integer_weight(layer, bits).whole(), integer_input(layer, bits.activation)
    codes = received.codes(x.detach().cpu().numpy())
    scale = weight.steps.astype(np.float64) * received.step
    bias = np.zeros_like(scale)
    spread: tuple[int, ...]
    added = layer.bias(bits)
    if added is not None:
        bias += added.detach().cpu().numpy()
    if isinstance(layer.inner, nn.Linear):
        factors, products = codes - received.zero, "...k,ok->...o"
        rows, spread = weight.codes, ()
    else:
        factors = _patches(layer.inner, codes, received.zero) - received.zero
        products = "nghwk,gok->ngohw"
        rows = weight.codes.reshape(layer.inner.groups, -1, factors.shape[-1])
        spread = (1, 1)
    sums, magnitudes = (
        np.einsum(products, *pair) for pair in ((factors, rows), (abs(factors), abs(rows)))
    )
    if isinstance(layer.inner, nn.Conv2d):
        whole = (len(sums), len(scale), *sums.shape[3:])
        sums, magnitudes = sums.reshape(whole), magnitudes.reshape(whole)
    scale, bias = scale.reshape(-1, *spread), bias.reshape(-1, *spread)
    return IntegerOutput(sums, magnitudes, factors.shape[-1], scale, bias)


def _patches(conv: nn.Conv2d, codes: NDArray[np.int64], zero: int) -> NDArray[np.int64]:
    """What the kernel meets at each place of its way, shape (N, groups, H, W, K)."""
    left, right, top, bottom = conv._reversed_padding_repeated_twice
    around = ((0, 0), (0, 0), (top, bottom), (left, right))
    if conv.padding_mode == "zeros":
        padded = np.pad(codes, around, constant_values=zero)
    else:
        padded = np.pad(codes, around, mode=_PADDING[conv.padding_mode])  # type: ignore[call-overload]
    (height, width), (down, across) = conv.kernel_size, conv.dilation
    reach = ((height - 1) * down + 1, (width - 1) * across + 1)
    windows = sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, :: conv.stride[0], :: conv.stride[1], ::down, ::across]
    images, channels, rows, columns = windows.shape[:4]
    grouped = windows.reshape(images, conv.groups, channels // conv.groups, rows, columns, -1)
    return grouped.transpose(0, 1, 3, 4, 2, 5).reshape(images, conv.groups, rows, columns, -1)
