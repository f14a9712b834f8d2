"""ONNX files at work on the CPU, as what :class:`~dqmq_env.evaluation.deployed.Deployed` asks for.

Nothing but ONNX Runtime is needed of the extra.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from dqmq_env.errors import DataError, ExportError, SettingError
from dqmq_env.evaluation.deployed import Deployed, Prediction
from dqmq_env.export.onnx_extra import export_extra
from dqmq_env.export.onnx_manifest import Manifest
from dqmq_env.export.onnx_names import CHOICE, IMAGES, LOGITS, PREFIX, SCHEMA
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.rule import Rule
from dqmq_env.training.fine_tune import assignment_under

with export_extra():
    import onnxruntime

Chooser = Callable[[Tensor], Tensor]
"""Maps uint8 images (N, C, H, W) to the number of an assignment for each, int64 (N,)."""


class OnnxGraph:
    """A graph that maps uint8 images to its outputs, run with as many threads as torch has.

    Args:
        data: content of the file.
        outputs: their names.
        further: names of what it may take beside images.

    Raises:
        ExportError: ONNX Runtime cannot run it, or it is from elsewhere.

    Attributes:
        inputs: names of what it takes.
    """

    def __init__(self, data: bytes, outputs: Sequence[str], further: Sequence[str] = ()) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what goes wrong is raised
        # weights become float once, in place of each time: faster, and the same numbers
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ExportError(f"path: ONNX Runtime cannot run it: {error}") from error
        taken, given = self._session.get_inputs(), self._session.get_outputs()
        self.inputs: tuple[str, ...] = tuple(own.name for own in taken)
        self._outputs = [own.name for own in given]
        known = self.inputs[:1] == (IMAGES,) and set(self.inputs[1:]) <= set(further)
        if not known or self._outputs != list(outputs):
            raise ExportError(
                f"path: it maps {', '.join(self.inputs)} to {', '.join(self._outputs)}, allowed "
                f"is {', '.join([IMAGES, *further])} to {', '.join(outputs)}"
            )
        self._shape = self._session.get_inputs()[0].shape[1:]

    @property
    def metadata(self) -> dict[str, str]:
        """The file's own."""
        found: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        return found

    def run(self, images: Tensor, further: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """The outputs for uint8 images (N, C, H, W), N at least 1, and what else it takes.

        Raises:
            DataError: the images have another type or shape.
        """
        if images.dtype != torch.uint8 or list(images.shape[1:]) != self._shape:
            raise DataError(
                f"images: got {images.dtype} of shape {tuple(images.shape)}, allowed is "
                f"torch.uint8 of shape (N, {', '.join(map(str, self._shape))})"
            )
        values = {IMAGES: images, **(further or {})}
        found = self._session.run(
            self._outputs, {name: value.numpy() for name, value in values.items()}
        )
        return [torch.from_numpy(own) for own in found]


def content_of(path: Path) -> bytes:
    """What a file holds.

    Raises:
        ExportError: it is missing.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ExportError(f"path: cannot read {path}: {error}") from error


def metadata_of(graph: OnnxGraph, schema: str) -> dict[str, Any]:
    """What our exporters note about a file, without the prefix of the names.

    Raises:
        ExportError: it is of another schema, or damaged.
    """
    try:
        own = {
            key.removeprefix(PREFIX): json.loads(text)
            for key, text in graph.metadata.items()
            if key.startswith(PREFIX)
        }
        found = own["schema"]
    except (ValueError, LookupError, RecursionError) as error:
        raise ExportError(f"path: its metadata are not {schema}: {error!r}") from error
    if found != schema:
        raise ExportError(f"path: schema {found!r}, this version reads {schema!r}")
    return own


class OnnxNetwork:
    """A network under one assignment.

    Args:
        data: content of a file that :class:`~dqmq_env.export.onnx_exporter.OnnxExporter` wrote.

    Raises:
        ExportError: see :class:`OnnxGraph`.

    Attributes:
        assignment: bits of every layer, in forward order.
        bops: of one image, as a fraction of those at 8 bits.
        classes: their names.
        mean: per channel, of images on the [0, 1] scale.
        std: per channel, of images on the [0, 1] scale.
    """

    def __init__(self, data: bytes) -> None:
        self._graph = OnnxGraph(data, [LOGITS])
        own = metadata_of(self._graph, SCHEMA)
        try:
            self.assignment = BitAssignment.from_json(json.dumps(own["assignment"]))
            self.bops = float(own["bops"])
            self.classes: list[str] = own["classes"]
            self.mean: list[float] = own["mean"]
            self.std: list[float] = own["std"]
        except (ValueError, TypeError, LookupError) as error:
            raise ExportError(f"path: its metadata are not {SCHEMA}: {error!r}") from error
        self._bits = torch.tensor([bits.weight for bits in self.assignment.values()])

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            ExportError: it is missing, damaged or foreign.
        """
        return cls(content_of(path))

    def __call__(self, images: Tensor) -> Prediction:
        """See :class:`~dqmq_env.evaluation.deployed.Deployed`."""
        (logits,) = self._graph.run(images)
        cost = torch.full((len(images),), self.bops)
        return Prediction(logits, cost, self._bits.expand(len(images), -1))


class OnnxController:
    """A graph that chooses an assignment for each image.

    Args:
        data: content of a file that maps ``images`` to ``assignment``, int64 (N,).

    Raises:
        ExportError: see :class:`OnnxGraph`.
    """

    def __init__(self, data: bytes) -> None:
        self._graph = OnnxGraph(data, [CHOICE])

    def __call__(self, images: Tensor) -> Tensor:
        """See :data:`Chooser`."""
        (numbers,) = self._graph.run(images)
        return numbers


class OnnxRunner:
    """A network for each assignment; the images of a batch are grouped by the one that they get.

    Args:
        networks: by number.
        choose: gives each image a number.
        bops: of choosing, for one image, as a fraction of the network's at 8 bits.
    """

    def __init__(self, networks: Sequence[Deployed], choose: Chooser, bops: float = 0.0) -> None:
        self._networks, self._choose, self._bops = tuple(networks), choose, bops

    def __call__(self, images: Tensor) -> Prediction:
        """See :class:`~dqmq_env.evaluation.deployed.Deployed`.

        Raises:
            SettingError: what was chosen is not the number of a network for each image.
        """
        numbers = self._choose(images)
        allowed = range(len(self._networks))
        if numbers.shape != images.shape[:1] or not set(numbers.tolist()) <= set(allowed):
            raise SettingError(
                f"choose: got numbers {numbers} for {len(images)} images, allowed is one each of "
                f"0 to {len(allowed) - 1}"
            )
        order = numbers.argsort(stable=True)
        parts = [
            self._networks[int(number)](images[numbers == number]) for number in numbers.unique()
        ]
        back = order.argsort()
        return Prediction(
            torch.cat([part.logits for part in parts])[back],
            torch.cat([part.cost for part in parts])[back] + self._bops,
            torch.cat([part.bits for part in parts])[back],
        )


class OnnxFolder:
    """What a folder of graphs holds, each checked against its checksum before it is used.

    Args:
        folder: that :func:`~dqmq_env.export.onnx_folder.save_rule` or
            :func:`~dqmq_env.export.onnx_folder.save_choices` wrote.

    Raises:
        ExportError: a file is missing, damaged or foreign.

    Attributes:
        networks: by number.
        rule: the assignment of each condition; empty where nothing is said of conditions.
    """

    def __init__(self, folder: Path) -> None:
        manifest = Manifest.load(folder)
        self.networks = tuple(OnnxNetwork(entry.read(folder)) for entry in manifest.graphs)
        self.rule = Rule(
            {text: self.networks[place].assignment for text, place in manifest.rule.items()}
        )
        own = manifest.controller
        self._controller = None if own is None else OnnxController(own.read(folder))
        self._controller_bops = manifest.controller_bops

    def under(self, condition: Condition | str) -> OnnxNetwork:
        """The network for images under ``condition``, which has to be told.

        Raises:
            ConditionError: there is no such condition.
            SettingError: the rule says nothing about it.
        """
        wanted = assignment_under(self.rule, condition)
        return next(network for network in self.networks if network.assignment == wanted)

    def runner(self, choose: Chooser | None = None, bops: float = 0.0) -> OnnxRunner:
        """All networks, by the choice of the folder's controller or of another.

        Args:
            choose: in place of the controller.
            bops: of ``choose``, for one image, as a fraction of the network's at 8 bits.

        Raises:
            SettingError: there is neither.
        """
        if choose is not None:
            return OnnxRunner(self.networks, choose, bops)
        if self._controller is None:
            raise SettingError("choose: the folder has no controller, allowed is a function")
        return OnnxRunner(self.networks, self._controller, self._controller_bops)
