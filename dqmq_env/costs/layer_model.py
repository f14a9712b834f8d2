"""Single layers as ONNX models of one node, to be timed.

A model takes and gives what the layer would inside an exported network:

* ``float32``: float in, float out.
* 8-bit weights and 8-bit activation: unsigned integers in and out, between them
  ``DequantizeLinear``, the layer, ``QuantizeLinear``, which ONNX Runtime fuses into one integer
  kernel.
* all other integer types: float in, ``QuantizeLinear`` and ``DequantizeLinear`` to the activation's
  type, the layer with weights that are dequantised from theirs, float out.
* integer weights and float activation: the same without the rounding of the activation. A linear
  layer's steps are given for blocks of 32 inputs, if that goes (the same step for all blocks of an
  output, so that nothing is computed differently): in this form alone the runtime has kernels that
  read packed weights, and only where the activation is not rounded right before.

Every layer has a bias, as it has once batch normalisation is folded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dqmq_env.export.onnx_extra import export_extra
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.spec import LayerSpec

with export_extra():
    import ml_dtypes
    import onnx
    from onnx import TensorProto, helper, numpy_helper

SIGNED = {2: ml_dtypes.int2, 4: ml_dtypes.int4, 8: np.int8}
UNSIGNED = {2: ml_dtypes.uint2, 4: ml_dtypes.uint4, 8: np.uint8}
_OPSETS = {2: 25, 4: 21, 8: 21, FLOAT_BITS: 21}
_BLOCK = 32
_STEP, _WEIGHT_STEP = np.float32(0.05), np.float32(0.01)


@dataclass(frozen=True)
class Shape:
    """What a layer computes, whatever its name: layers of one shape take the same time.

    Attributes:
        weight: shape of its weights: (out, in per group, height, width), or (out, in).
        received: shape of what it receives for one image: (C, H, W), or (..., in).
        strides: vertical and horizontal.
        pads: top, left, bottom, right.
        dilations: vertical and horizontal.
        groups: its groups.
    """

    weight: tuple[int, ...]
    received: tuple[int, ...]
    strides: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)
    dilations: tuple[int, ...] = (1, 1)
    groups: int = 1

    @classmethod
    def of(cls, spec: LayerSpec, module: nn.Conv2d | nn.Linear) -> "Shape":
        """That of a layer at its first use."""
        weight = tuple(module.weight.shape)
        if isinstance(module, nn.Linear):
            return cls(weight, spec.input_shape)
        return cls(
            weight,
            spec.input_shape,
            tuple(module.stride),
            _pads(module),
            tuple(module.dilation),
            module.groups,
        )

    @property
    def linear(self) -> bool:
        """Whether it is a linear layer."""
        return len(self.weight) == 2

    def rows(self, batch: int) -> tuple[int, ...]:
        """Shape of what the layer receives for a batch."""
        if not self.linear:
            return (batch, *self.received)
        return batch * int(np.prod(self.received[:-1])), self.received[-1]


def layer_model(shape: Shape, weight: int, activation: int, batch: int) -> tuple[Any, Any]:
    """A model of one layer, and an input for it.

    Args:
        shape: of the layer.
        weight: width of the type that holds its weights: 2, 4, 8 or 32 for float.
        activation: the same for what it receives.
        batch: number of images.
    """
    graph = _Graph(shape, weight, activation)
    integers = weight == activation == 8
    kind, number = (TensorProto.UINT8, np.uint8) if integers else (TensorProto.FLOAT, np.float32)
    body = helper.make_graph(
        list(graph.nodes()),
        "layer",
        [helper.make_tensor_value_info("x", kind, shape.rows(batch))],
        [helper.make_tensor_value_info("y", kind, None)],
        graph.tensors,
    )
    opset = helper.make_opsetid("", max(_OPSETS[weight], _OPSETS[activation]))
    version = helper.find_min_ir_version_for([opset])
    model = helper.make_model(body, opset_imports=[opset], ir_version=version)
    return model, np.ones(shape.rows(batch), number)


class _Graph:
    """The nodes of a layer; ``tensors`` are filled on the way."""

    def __init__(self, shape: Shape, weight: int, activation: int) -> None:
        self._shape, self._weight, self._activation = shape, weight, activation
        self.tensors: list[onnx.TensorProto] = []

    def nodes(self) -> Iterator[onnx.NodeProto]:
        """In order, from ``x`` to ``y``."""
        integers = self._weight == self._activation == 8
        received = "x"
        if self._activation < FLOAT_BITS:
            scale, zero = self._tensor("step", _STEP), self._tensor("zero", self._zero)
            if not integers:
                yield helper.make_node("QuantizeLinear", ["x", scale, zero], ["codes"])
                received = "codes"
            yield helper.make_node("DequantizeLinear", [received, scale, zero], ["received"])
            received = "received"
        blocks = self._blocks
        if self._weight < FLOAT_BITS:
            yield self._weights(blocks)
        else:
            self._tensor("weight", np.full(self._shape.weight, _WEIGHT_STEP))
        if integers:
            yield self._integer_bias()
        else:
            self._tensor("bias", np.zeros(self._outputs, np.float32))
        output = "float" if integers else "y"
        yield from self._layer(received, output, blocks)
        if integers:
            yield helper.make_node("QuantizeLinear", ["float", "step", "zero"], ["y"])

    @property
    def _outputs(self) -> int:
        return self._shape.weight[0]

    @property
    def _zero(self) -> NDArray[Any]:
        return np.array(0, UNSIGNED[self._activation])

    @property
    def _blocks(self) -> int:
        """Number of blocks of inputs that weights have steps for; 0 where they have one step."""
        inputs = self._shape.weight[1]
        packed = self._shape.linear and self._weight < self._activation == FLOAT_BITS
        return inputs // _BLOCK if packed and inputs % _BLOCK == 0 else 0

    def _weights(self, blocks: int) -> onnx.NodeProto:
        codes: tuple[int, ...] = self._shape.weight
        steps: tuple[int, ...] = (self._outputs,)
        if blocks:
            codes, steps = codes[::-1], (blocks, self._outputs)
        kind = SIGNED[self._weight]
        self._tensor("codes_of_weight", np.ones(codes).astype(kind))
        self._tensor("steps", np.full(steps, _WEIGHT_STEP))
        # a zero point, though it is 0: without one the runtime fuses no linear layer
        self._tensor("zeros", np.zeros(steps).astype(kind))
        names = ["codes_of_weight", "steps", "zeros"]
        node = helper.make_node("DequantizeLinear", names, ["weight"], axis=0)
        if blocks:
            node.attribute.append(helper.make_attribute("block_size", _BLOCK))
        return node

    def _integer_bias(self) -> onnx.NodeProto:
        self._tensor("codes_of_bias", np.zeros(self._outputs, np.int32))
        self._tensor("steps_of_bias", np.full(self._outputs, _STEP * _WEIGHT_STEP))
        return helper.make_node(
            "DequantizeLinear", ["codes_of_bias", "steps_of_bias"], ["bias"], axis=0
        )

    def _layer(self, received: str, output: str, blocks: int) -> Iterator[onnx.NodeProto]:
        if blocks:
            yield helper.make_node("MatMul", [received, "weight"], ["product"])
            yield helper.make_node("Add", ["product", "bias"], [output])
        elif self._shape.linear:
            yield helper.make_node("Gemm", [received, "weight", "bias"], [output], transB=1)
        else:
            yield helper.make_node(
                "Conv",
                [received, "weight", "bias"],
                [output],
                strides=self._shape.strides,
                pads=self._shape.pads,
                dilations=self._shape.dilations,
                group=self._shape.groups,
            )

    def _tensor(self, name: str, values: Any) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(values), name))
        return name


def _pads(module: nn.Conv2d) -> tuple[int, ...]:
    if isinstance(module.padding, str):
        whole = [
            dilation * (side - 1) if module.padding == "same" else 0
            for dilation, side in zip(module.dilation, module.kernel_size, strict=True)
        ]
        return (*(own // 2 for own in whole), *(own - own // 2 for own in whole))
    return (*module.padding, *module.padding)
