"""A network's ONNX graph with its quantised layers left open.

PyTorch's exporter draws the graph, once. Where a quantised layer has its input, weight and bias,
nodes of a domain of our own mark the places, which are filled for one assignment after the other
(:mod:`~dqmq_env.export.onnx_layers`), or, where a policy inside the graph chooses, for all of them
(:mod:`~dqmq_env.export.onnx_branches`).
"""

import copy
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic

from dqmq_env.errors import ExportError
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.export.dynamic import Dynamic
from dqmq_env.export.onnx_extra import export_extra
from dqmq_env.export.onnx_names import BITS, COST, IMAGES, LOGITS
from dqmq_env.quantization.choice import LayerChoice, RelaxedBits, taken_apart
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.surgery import replace_module

with export_extra():
    import onnx
    from onnxscript import optimizer

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
    return _export(whole, image_shape, {}, [LOGITS], opset)


def trace_dynamic(
    network: QuantizedNetwork, dynamic: Dynamic, image_shape: Sequence[int], opset: int
) -> onnx.ModelProto:
    """The graph of a network with the policy that gives its layers their bits.

    Args:
        network: folded, on the CPU, in eval mode.
        dynamic: the policy; its normalisation becomes part of the graph.
        image_shape: (C, H, W).
        opset: of the operators.

    Returns:
        From uint8 images (N, C, H, W), N free, and what else the policy takes, to logits (N,
        classes), the weight bits of each layer and the cost of an image. All images of a call share
        their bits.

    Raises:
        ExportError: PyTorch cannot export network or policy.
    """
    whole = dynamic.traceable(_open(network)).eval()
    outputs = [LOGITS, BITS, COST]
    return _export(whole, image_shape, dynamic.inputs, outputs, opset, optimize=False)


class _Places(nn.Module):
    """Stands for a quantised layer: the same operator on marked places.

    The bias is added by a node of its own. As an input of the operator, ONNX Runtime would round it
    to whole multiples of the products' step, which at few bits is coarse.

    Attributes:
        choice: position of the layer's bits among its options, int64 (1,), where it is computed
            inside the graph.
    """

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        self.inner = layer.inner
        self.name = layer.spec.name
        self.choice: list[Tensor] = []

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
            [*inputs, *self.choice],
            {LAYER: self.name},
            dtype=torch.float32,
            shape=shape,
            version=1,
        )
        return place


class _OpenLayer(QuantizedLayer):
    """A quantised layer that asks for its bits, and computes on marked places."""

    places: _Places

    def forward(self, x: Tensor) -> Tensor:
        if self.chosen is None:
            assert self.chooser is not None
            self.chosen = self.chooser(self.index, x)
        return self.compute(x, self.chosen)

    def compute(self, x: Tensor, choice: LayerChoice) -> Tensor:
        bits, modulated = taken_apart(choice)
        if isinstance(bits, RelaxedBits):
            assert bits.sample is not None
            self.places.choice = [bits.sample]
        output: Tensor = self.places(x)
        if modulated is None:
            return output
        return modulated.applied(output, self.spec.channel_axis, self.written_into)


def _open(network: QuantizedNetwork) -> QuantizedNetwork:
    """A copy whose layers ask for their bits as ever, and leave computing open."""
    opened = copy.deepcopy(network)
    for layer in opened.layers:
        layer.__class__ = _OpenLayer
        layer.places = _Places(layer)
    return opened


def _export(
    network: nn.Module,
    image_shape: Sequence[int],
    further: Mapping[str, Tensor],
    outputs: Sequence[str],
    opset: int,
    optimize: bool = True,
) -> onnx.ModelProto:
    """What PyTorch's exporter draws.

    Its optimisation is left to three simple passes where ``optimize`` says so: it takes minutes
    where a policy adds hundreds of small nodes.
    """
    images = torch.zeros(2, *image_shape, dtype=torch.uint8)
    shapes = ({0: torch.export.Dim("batch")}, *(None for _ in further))
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about PyTorch's own insides
            program = torch.onnx.export(
                network,
                (images, *further.values()),
                dynamo=True,
                opset_version=opset,
                input_names=[IMAGES, *further],
                output_names=list(outputs),
                dynamic_shapes=shapes,
                optimize=optimize,
                verbose=False,
            )
    except Exception as error:
        raise ExportError(f"network: PyTorch cannot export it to ONNX: {_cause(error)}") from error
    assert program is not None
    if not optimize:
        optimizer.inline(program.model)
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
    model: onnx.ModelProto = program.model_proto
    return model


def _cause(error: BaseException) -> str:
    """The first line of what began it."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
