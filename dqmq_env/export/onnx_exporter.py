"""From a quantised network and an assignment to an ONNX model that any runtime can read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from dqmq_env.costs import Bops, fraction
from dqmq_env.errors import ExportError, SettingError
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.export.onnx_extra import export_extra
from dqmq_env.export.onnx_layers import TYPES, put_bias, put_input, put_weight
from dqmq_env.export.onnx_names import PREFIX, SCHEMA
from dqmq_env.export.onnx_nodes import Nodes
from dqmq_env.export.onnx_template import DOMAIN, INPUT, LAYER, WEIGHT, trace_onnx
from dqmq_env.export.writing import write_new
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.version import __version__

with export_extra():
    import onnx
    from onnx import helper

OPSET: Final = 25


class OnnxExporter:
    """Writes a network under one assignment after the other, in quantise-dequantise form.

    The model takes uint8 images ``images`` of shape (N, C, H, W), N free, and gives ``logits`` of
    shape (N, classes); normalisation is inside. Its metadata are ``dqmq.schema``,
    ``dqmq.assignment``, ``dqmq.bops`` (a fraction of those at 8 bits), ``dqmq.classes``,
    ``dqmq.mean`` and ``dqmq.std``, each JSON.

    Args:
        network: calibrated or trained; a folded copy of it is kept.
        normalize: from images to the network's input.
        image_shape: (C, H, W).
        classes: names of the classes.
        opset: 25, or 21 for runtimes that have no 2-bit types; those weights and activations take
            4 bits there.

    Raises:
        ExportError: the network has operators without a form in ONNX.
        SettingError: the opset is another one, or a package is missing.
    """

    def __init__(
        self,
        network: QuantizedNetwork,
        normalize: Normalize,
        image_shape: Sequence[int],
        classes: Sequence[str],
        opset: int = OPSET,
    ) -> None:
        if opset not in TYPES:
            raise SettingError(f"opset: got {opset}, allowed are {list(TYPES)}")
        self._network = network.folded().cpu()
        self._opset = opset
        self._metadata = {
            "classes": list(classes),
            "mean": normalize.mean.flatten().tolist(),
            "std": normalize.std.flatten().tolist(),
        }
        self._template = trace_onnx(self._network, normalize, image_shape, opset)

    @classmethod
    def over(
        cls, problem: NetworkProblem, network: QuantizedNetwork | None = None, opset: int = OPSET
    ) -> Self:
        """The exporter of a problem's network.

        Args:
            problem: gives normalisation, images and classes.
            network: trained on the problem; by default the one quantised after training.
            opset: see the class.
        """
        return cls(
            network or problem.quantized,
            problem.normalize,
            problem.data.train.images.shape[1:],
            problem.data.classes,
            opset,
        )

    def model(self, assignment: BitAssignment) -> onnx.ModelProto:
        """The model of an assignment, checked.

        Raises:
            AssignmentError: the bits do not fit the layers.
            ExportError: ONNX's checker finds a fault.
        """
        specs = self._network.specs
        self._network.in_order(assignment)
        model = onnx.ModelProto()
        model.CopyFrom(self._template)
        self._filled(assignment).put_into(model.graph)
        imports = [known for known in model.opset_import if known.domain != DOMAIN]
        del model.opset_import[:], model.metadata_props[:]
        model.opset_import.extend(imports)
        model.ir_version = helper.find_min_ir_version_for(imports)
        model.producer_name, model.producer_version = "dqmq_env", __version__
        in_order = BitAssignment({spec.name: assignment[spec.name] for spec in specs})
        own = {
            "schema": SCHEMA,
            "assignment": json.loads(in_order.to_json()),
            "bops": fraction(Bops(), specs, assignment),
        }
        for key, value in (own | self._metadata).items():
            model.metadata_props.add(key=f"{PREFIX}{key}", value=json.dumps(value))
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ExportError(f"network: its ONNX graph is not valid: {error}") from error
        return model

    def save(self, assignment: BitAssignment, path: Path, force: bool = False) -> None:
        """Write the model of an assignment, whole or not at all.

        Args:
            assignment: bits of every layer.
            path: of the file, by custom ``*.onnx``.
            force: write over what is there.

        Raises:
            AssignmentError: the bits do not fit the layers.
            ExportError: there is a file already, or it cannot be written; see also :meth:`model`.
        """
        write_new({path: self.serialized(assignment)}, force)

    def serialized(self, assignment: BitAssignment) -> bytes:
        """The content of the file of an assignment, the same on every call.

        Raises:
            AssignmentError: the bits do not fit the layers.
            ExportError: see :meth:`model`.
        """
        content: bytes = self.model(assignment).SerializeToString(deterministic=True)
        return content

    def _filled(self, assignment: BitAssignment) -> Nodes:
        """The nodes of the template, with the quantised layers put into their places."""
        layers = {layer.spec.name: layer for layer in self._network.layers}
        nodes = Nodes()
        for node in self._template.graph.node:
            if node.domain != DOMAIN:
                nodes.take(node)
                continue
            (name,) = (a.s.decode() for a in node.attribute if a.name == LAYER)
            layer, bits = layers[name], assignment[name]
            if node.op_type == INPUT:
                made = put_input(nodes, layer, bits, nodes.now(node.input[0]), self._opset)
            elif node.op_type == WEIGHT:
                made = put_weight(nodes, layer, bits, self._opset)
            else:
                made = put_bias(nodes, layer, bits)
            nodes.rename(node.output[0], made)
        return nodes
