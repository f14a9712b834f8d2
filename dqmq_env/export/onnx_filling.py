"""Put quantised layers into the places that a template leaves open, and sign the model."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dqmq_env.errors import ExportError
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.export.onnx_branches import Put, put_chosen
from dqmq_env.export.onnx_extra import export_extra
from dqmq_env.export.onnx_layers import put_bias, put_input, put_weight
from dqmq_env.export.onnx_names import PREFIX
from dqmq_env.export.onnx_nodes import Nodes
from dqmq_env.export.onnx_template import BIAS, DOMAIN, INPUT, LAYER, WEIGHT
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.version import __version__

with export_extra():
    import onnx
    from onnx import helper

_WORDS = {INPUT: "input", WEIGHT: "weight", BIAS: "bias"}


def filled(
    template: onnx.ModelProto,
    network: QuantizedNetwork,
    opset: int,
    assignment: BitAssignment | None = None,
) -> onnx.ModelProto:
    """A copy of a template with the quantised layers in their places.

    Args:
        template: see :mod:`~dqmq_env.export.onnx_template`.
        network: folded, on the CPU.
        opset: of the operators.
        assignment: bits of every layer; without one, layers that leave a choice get what each of
            their options needs, of which the graph itself chooses.
    """
    model = onnx.ModelProto()
    model.CopyFrom(template)
    layers = {layer.spec.name: layer for layer in network.layers}
    nodes = Nodes()
    for node in template.graph.node:
        if node.domain != DOMAIN:
            nodes.take(node)
            continue
        (name,) = (a.s.decode() for a in node.attribute if a.name == LAYER)
        layer = layers[name]
        inputs = [nodes.now(own) for own in node.input]
        put = _put(node.op_type, layer, inputs, opset)
        if assignment is not None:
            made = put(nodes, assignment[name])
        elif len(layer.options) == 1:
            made = put(nodes, layer.options[0])
        else:
            made = put_chosen(nodes, layer, _WORDS[node.op_type], inputs[-1], put)
        nodes.rename(node.output[0], made)
    nodes.put_into(model.graph)
    return model


def signed(model: onnx.ModelProto, metadata: Mapping[str, Any]) -> onnx.ModelProto:
    """The same model with imports and metadata in order, checked.

    Raises:
        ExportError: ONNX's checker finds a fault.
    """
    imports = [known for known in model.opset_import if known.domain != DOMAIN]
    del model.opset_import[:], model.metadata_props[:]
    model.opset_import.extend(imports)
    model.ir_version = helper.find_min_ir_version_for(imports)
    model.producer_name, model.producer_version = "dqmq_env", __version__
    for key, value in metadata.items():
        model.metadata_props.add(key=f"{PREFIX}{key}", value=json.dumps(value))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"network: its ONNX graph is not valid: {error}") from error
    return model


def origin_metadata(normalize: Normalize, classes: Sequence[str]) -> dict[str, Any]:
    """What the metadata of every model say."""
    return {
        "classes": list(classes),
        "mean": normalize.mean.flatten().tolist(),
        "std": normalize.std.flatten().tolist(),
    }


def _put(kind: str, layer: QuantizedLayer, inputs: Sequence[str], opset: int) -> Put:
    """What puts there what stands at a place."""
    if kind == INPUT:
        return lambda nodes, bits: put_input(nodes, layer, bits, inputs[0], opset)
    if kind == WEIGHT:
        return lambda nodes, bits: put_weight(nodes, layer, bits, opset)
    return lambda nodes, bits: put_bias(nodes, layer, bits)
