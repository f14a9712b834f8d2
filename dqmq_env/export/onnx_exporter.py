"""From a quantised network and an assignment to an ONNX model that any runtime can read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from dqmq_env.costs import Bops, fraction
from dqmq_env.errors import SettingError
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.export.dynamic import Dynamic
from dqmq_env.export.onnx_extra import export_extra
from dqmq_env.export.onnx_filling import filled, origin_metadata, signed
from dqmq_env.export.onnx_layers import TYPES
from dqmq_env.export.onnx_names import BUDGET, DYNAMIC_SCHEMA, SCHEMA
from dqmq_env.export.onnx_template import trace_dynamic, trace_onnx
from dqmq_env.export.writing import write_new
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.network import QuantizedNetwork

with export_extra():
    import onnx

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
        check_opset(opset)
        self._network = network.folded().cpu()
        self._opset = opset
        self._metadata = origin_metadata(normalize, classes)
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
        model = filled(self._template, self._network, self._opset, assignment)
        in_order = BitAssignment({spec.name: assignment[spec.name] for spec in specs})
        own = {
            "schema": SCHEMA,
            "assignment": json.loads(in_order.to_json()),
            "bops": fraction(Bops(), specs, assignment),
        }
        return signed(model, own | self._metadata)

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


def dynamic_model(
    problem: NetworkProblem, network: QuantizedNetwork, dynamic: Dynamic, opset: int = OPSET
) -> onnx.ModelProto:
    """The model of a network with the policy inside that gives its layers their bits, checked.

    It takes ``images`` as above and, where the policy was trained for many budgets, ``budget``,
    float32 (1,). It gives ``logits``, ``bits`` (of the weights of each layer, int64) and ``cost``
    (of an image, as a fraction of the BOPs at 8 bits, what the policy takes included). All images
    of a call share their bits: where each image is to have its own, it is given alone, which
    ``dqmq.one_by_one`` says. Further metadata are ``dqmq.schema``, ``dqmq.layers``, ``dqmq.budget``
    (that of training, or null), ``dqmq.classes``, ``dqmq.mean`` and ``dqmq.std``.

    Args:
        problem: gives normalisation, images and classes.
        network: trained on the problem.
        dynamic: the policy.
        opset: see :class:`OnnxExporter`.

    Raises:
        ExportError: PyTorch cannot export it, or ONNX's checker finds a fault.
        SettingError: the opset is another one, or a package is missing.
    """
    check_opset(opset)
    folded = network.folded().cpu()
    template = trace_dynamic(folded, dynamic, problem.data.train.images.shape[1:], opset)
    budget = dynamic.inputs.get(BUDGET)
    own = {
        "schema": DYNAMIC_SCHEMA,
        "layers": [spec.name for spec in folded.specs],
        "one_by_one": dynamic.one_by_one,
        "budget": None if budget is None else budget.tolist(),
    }
    metadata = own | origin_metadata(problem.normalize, problem.data.classes)
    return signed(filled(template, folded, opset), metadata)


def check_opset(opset: int) -> None:
    """Refuse an opset that files are not written for.

    Raises:
        SettingError: it is one.
    """
    if opset not in TYPES:
        raise SettingError(f"opset: got {opset}, allowed are {list(TYPES)}")
