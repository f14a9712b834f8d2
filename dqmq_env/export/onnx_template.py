"""A network's ONNX graph with its quantised layers left open.

PyTorch's exporter draws the graph, once. Where a quantised layer has its input, weight and bias,
nodes of a domain of our own mark the places, which are filled for one assignment after the other
(:mod:`~dqmq_env.export.onnx_layers`).
"""

import copy
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic

from dqmq_env.errors import ExportError
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.export.onnx_extra import export_extra
from dqmq_env.export.onnx_names import IMAGES, LOGITS
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.surgery import replace_module

with export_extra():
    import onnx
    import onnxscript  # noqa: F401 - PyTorch's exporter needs it

DOMAIN = "dqmq"
INPUT, WEIGHT, BIAS = "Input", "Weight", "Bias"
LAYER = "layer"


def trace_onnx(
    network: QuantizedNetwork, normalize: Normalize, image_shape: Sequence[int], opset: int
) -> onnx.ModelProto:
    """The graph from uint8 images (N, C, H, W), N free, to logits (N, classes).

    Args:
        network: folded, on the CPU, in eval mode.
        normalize: becomes the first nodes of the graph.
        image_shape: (C, H, W).
        opset: of the operators.

    Raises:
        ExportError: PyTorch cannot export the network.
    """
    inside = copy.deepcopy(network)
    for layer in inside.layers:
        replace_module(inside.network, layer, _Places(layer))
    whole = nn.Sequential(normalize, inside.network).eval()
    example = torch.zeros(2, *image_shape, dtype=torch.uint8)
    return _export(whole, example, opset)


class _Places(nn.Module):
    """Stands for a quantised layer: the same operator on marked places.

    The bias is added by a node of its own. As an input of the operator, ONNX Runtime would round it
    to whole multiples of the products' step, which at few bits is coarse.
    """

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        self.inner = layer.inner
        self.name = layer.spec.name

    def forward(self, x: Tensor) -> Tensor:
        outputs, *others = self.inner.weight.shape
        x = self._place(INPUT, [x], x.shape)
        if isinstance(self.inner, nn.Linear):
            weight = self._place(WEIGHT, [], (*others, outputs))
            return x @ weight + self._place(BIAS, [], (outputs,))
        weight = self._place(WEIGHT, [], (outputs, *others))
        output: Tensor = self.inner._conv_forward(x, weight, None)
        return output + self._place(BIAS, [], (outputs, 1, 1))

    def _place(
        self, kind: str, inputs: Sequence[Tensor], shape: Sequence[int | torch.SymInt]
    ) -> Tensor:
        place: Tensor = symbolic(
            f"{DOMAIN}::{kind}",
            inputs,
            {LAYER: self.name},
            dtype=torch.float32,
            shape=shape,
            version=1,
        )
        return place


def _export(network: nn.Module, example: Tensor, opset: int) -> onnx.ModelProto:
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about PyTorch's own insides
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=[IMAGES],
                output_names=[LOGITS],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except Exception as error:
        raise ExportError(f"network: PyTorch cannot export it to ONNX: {_cause(error)}") from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def _cause(error: BaseException) -> str:
    """The first line of what began it."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
