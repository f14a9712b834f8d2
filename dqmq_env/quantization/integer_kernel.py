"""Convolutions on 8-bit integers, where the processor has instructions for them.

Products of codes are summed up exactly, so that the result is that of fake quantisation but for the
rounding of floats, and does not depend on how a batch is divided.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.grid import Grid

if TYPE_CHECKING:
    from dqmq_env.quantization.layer import QuantizedLayer
    from dqmq_env.quantization.network import QuantizedNetwork


class IntegerKernel:
    """Computes one layer by oneDNN's convolution of unsigned activations and signed weights.

    Args:
        layer: a plain convolution.
    """

    def __init__(self, layer: "QuantizedLayer") -> None:
        assert isinstance(layer.inner, nn.Conv2d)
        self._layer, self._conv = layer, layer.inner
        self._whole = {
            bits
            for position, bits in enumerate(layer.candidates)
            if layer.weight_grid(position).offset == 0
        }
        self._packed: dict[LayerBits, tuple[tuple[int, ...], Tensor, Tensor, Tensor]] = {}

    def takes(self, bits: LayerBits) -> bool:
        """See :class:`~dqmq_env.quantization.kernel.Kernel`.

        Weights whose levels lie between integers, as those of one bit do, are left out; float is no
        integer.
        """
        layer = self._layer
        known = bits.weight in self._whole and bits.activation in layer.activation_candidates
        return known and layer.inner.weight.device.type == "cpu"

    def __call__(self, x: Tensor, bits: LayerBits) -> Tensor:
        """See :class:`~dqmq_env.quantization.kernel.Kernel`; ``x`` has the shape (N, C, H, W)."""
        layer, conv = self._layer, self._conv
        position = layer.activation_candidates.index(bits.activation)
        grid = layer.activation_grid(position)
        step = layer.activation_log_step[position].exp()
        codes = _unsigned((x * step.reciprocal()).round_(), grid)
        packed, scales, zeros = self._weights(x, bits, float(step), -grid.low)
        output: Tensor = torch.ops.onednn.qconv2d_pointwise(
            codes,
            float(step),
            -grid.low,
            packed,
            scales,
            zeros,
            layer.bias(bits),
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return output

    def _weights(
        self, x: Tensor, bits: LayerBits, step: float, zero: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Codes as oneDNN wants them, their steps and zero points."""
        layer, conv = self._layer, self._conv
        version = (*layer.version(), layer.activation_log_step._version)
        kept = self._packed.get(bits)
        if kept is None or kept[0] != version:
            scales = layer.weight_steps(bits).float().contiguous()
            packed = torch.ops.onednn.qconv_prepack(
                layer.weight_codes(bits.weight).to(torch.int8).contiguous(),
                scales,
                step,
                zero,
                conv.stride,
                conv.padding,
                conv.dilation,
                conv.groups,
                list(x.shape),
            )
            kept = version, packed, scales, torch.zeros(len(scales), dtype=torch.int64)
            self._packed[bits] = kept
        return kept[1:]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is packed again when it is needed."""
        return {**self.__dict__, "_packed": {}}


def _unsigned(levels: Tensor, grid: Grid) -> Tensor:
    """Whole numbers, cut to the grid and counted from its lowest, as uint8; ``levels`` is spent.

    They take the way of int8, to which torch converts several times faster.
    """
    levels.clamp_(grid.low, grid.high)
    wide = grid.high - grid.low > 127
    shift = grid.low + 128 * wide
    if shift:
        levels.sub_(shift)
    codes = levels.to(torch.int8).view(torch.uint8)
    return codes.bitwise_xor_(128) if wide else codes


def integers_are_fast() -> bool:
    """Whether processor and torch can; without VNNI, sums of products would saturate."""
    vnni = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    return bool(vnni()) and hasattr(torch.ops.onednn, "qconv2d_pointwise")


def use_integer_kernels(network: "QuantizedNetwork") -> None:
    """Let the plain convolutions of a network be computed on integers, without gradients."""
    for layer in network.layers:
        inner = layer.inner
        plain = type(inner) is nn.Conv2d and inner.padding_mode == "zeros"
        if plain and not isinstance(inner.padding, str):
            layer.kernel = IntegerKernel(layer)
