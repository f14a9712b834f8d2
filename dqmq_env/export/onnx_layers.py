"""Quantised layers in ONNX: integers, their scales, and the nodes between them and floats.

Weights are integers of the narrowest type that holds their width, with one scale for each output
channel. Activations are rounded by ``QuantizeLinear`` to the narrowest unsigned type, with a zero
point. Below 8 bits they are cut to the ends of their grid first, which keeps them on it where the
type has room for more; since the ends are on the grid, nothing else changes.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from torch import nn

from dqmq_env.errors import SettingError
from dqmq_env.export.integer_layer import integer_input, integer_weight
from dqmq_env.export.onnx_extra import export_extra
from dqmq_env.export.onnx_nodes import Nodes
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.layer import QuantizedLayer

with export_extra():
    import ml_dtypes

TYPES: Final[Mapping[int, tuple[int, ...]]] = {21: (4, 8), 25: (2, 4, 8)}
"""ONNX opset to the widths of the integer types that its quantising operators have."""

_SIGNED = {2: ml_dtypes.int2, 4: ml_dtypes.int4, 8: np.int8}
_UNSIGNED = {2: ml_dtypes.uint2, 4: ml_dtypes.uint4, 8: np.uint8}


def type_width(bits: int, opset: int) -> int:
    """The width of the narrowest integer type that holds ``bits``, 1 to 8.

    Raises:
        SettingError: the opset is none of those that files are written for.
    """
    if opset not in TYPES:
        raise SettingError(f"opset: got {opset}, allowed are {list(TYPES)}")
    return next(width for width in TYPES[opset] if width >= bits)


def put_input(nodes: Nodes, layer: QuantizedLayer, bits: LayerBits, x: str, opset: int) -> str:
    """Round the value ``x`` as a layer rounds its input; return the name of the result.

    Raises:
        AssignmentError: the bits are not among the layer's candidates.
    """
    if bits.activation == FLOAT_BITS:
        return x
    held = integer_input(layer, bits.activation)
    width = type_width(bits.activation, opset)
    name = f"{layer.spec.name}/input"
    zero = np.array(held.zero).astype(_UNSIGNED[width])
    terms = [
        nodes.tensor(f"{name}_scale", np.array(held.step)),
        nodes.tensor(f"{name}_zero_point", zero),
    ]
    result = nodes.unused(name)
    if bits.activation < 8:
        # also where the type itself would cut values off: ONNX Runtime 1.32 refuses models in which
        # a Clip, such as that of ReLU6, stands right before rounding to fewer than 8 bits
        low, high = (np.array(end) for end in held.range)
        x = nodes.add("Max", [x, nodes.tensor(f"{name}_low", low)], f"{result}_above")
        x = nodes.add("Min", [x, nodes.tensor(f"{name}_high", high)], f"{result}_within")
    codes = nodes.add("QuantizeLinear", [x, *terms], f"{result}_codes")
    return nodes.add("DequantizeLinear", [codes, *terms], result)


@torch.no_grad()
def put_weight(nodes: Nodes, layer: QuantizedLayer, bits: LayerBits, opset: int) -> str:
    """The weight of a layer, that of a linear one transposed; return its name.

    Levels between integers are made whole where the type has the bit for it; else what they lie
    above the integers is added.

    Raises:
        AssignmentError: the bits are not among the layer's candidates.
    """
    name, linear = f"{layer.spec.name}/weight", isinstance(layer.inner, nn.Linear)
    if bits.weight == FLOAT_BITS:
        values = layer.quantized_weight(FLOAT_BITS).numpy()
        return nodes.tensor(name, values.T if linear else values)
    held, width = integer_weight(layer, bits), type_width(bits.weight, opset)
    if bits.weight < width:
        held = held.whole()
    whole = held.codes.astype(_SIGNED[width])
    codes = nodes.tensor(f"{name}_codes", whole.T if linear else whole)
    scale = nodes.tensor(f"{name}_scale", held.steps)
    if held.offset == 0:
        return nodes.add("DequantizeLinear", [codes, scale], name, axis=int(linear))
    below = nodes.add("DequantizeLinear", [codes, scale], f"{name}_below", axis=int(linear))
    shift = held.steps * np.float32(held.offset)
    shift = shift if linear else shift.reshape(-1, 1, 1, 1)
    return nodes.add("Add", [below, nodes.tensor(f"{name}_shift", shift)], name)


@torch.no_grad()
def put_bias(nodes: Nodes, layer: QuantizedLayer, bits: LayerBits) -> str:
    """What a layer adds to its output, in float; return its name."""
    bias = layer.bias(bits)
    values = torch.zeros(layer.spec.out_channels) if bias is None else bias
    if isinstance(layer.inner, nn.Conv2d):
        values = values[:, None, None]
    return nodes.tensor(f"{layer.spec.name}/bias", values.numpy())
