"""One ONNX graph for each assignment in use, and a manifest, in a folder."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dqmq_env.errors import ExportError
from dqmq_env.export.onnx_exporter import OnnxExporter
from dqmq_env.export.onnx_manifest import Entry, Manifest
from dqmq_env.export.onnx_names import MANIFEST
from dqmq_env.export.onnx_runner import OnnxController
from dqmq_env.export.writing import write_new
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.rule import Rule


def save_rule(exporter: OnnxExporter, rule: Rule, folder: Path, force: bool = False) -> None:
    """Write the graphs of a rule, whose conditions have to be told.

    Args:
        exporter: of the network.
        rule: conditions with the same assignment share a graph.
        folder: is made where it is missing.
        force: write into a folder that has files.

    Raises:
        AssignmentError: bits do not fit the layers.
        ExportError: the folder has files already, or cannot be written.
    """
    assignments = list(dict.fromkeys(rule.values()))
    places = {str(condition): assignments.index(own) for condition, own in rule.items()}
    _save(exporter, assignments, folder, force, places)


def save_choices(
    exporter: OnnxExporter,
    assignments: Sequence[BitAssignment],
    folder: Path,
    controller: bytes | None = None,
    controller_bops: float = 0.0,
    force: bool = False,
) -> None:
    """Write the graphs of a network whose assignment is chosen for each image.

    Args:
        exporter: of the network.
        assignments: by number.
        folder: is made where it is missing.
        controller: an ONNX model that maps ``images`` to ``assignment``, the numbers, int64 (N,);
            ``None`` leaves the choice to a function that the runner is given.
        controller_bops: of choosing, for one image, as a fraction of the network's at 8 bits.
        force: write into a folder that has files.

    Raises:
        AssignmentError: bits do not fit the layers.
        ExportError: the folder has files already, or cannot be written, or ONNX Runtime cannot run
            the controller.
    """
    if controller is not None:
        OnnxController(controller)
    _save(exporter, assignments, folder, force, {}, controller, controller_bops)


def _save(
    exporter: OnnxExporter,
    assignments: Sequence[BitAssignment],
    folder: Path,
    force: bool,
    rule: Mapping[str, int],
    controller: bytes | None = None,
    controller_bops: float = 0.0,
) -> None:
    """Write graphs and, last, their manifest.

    Since checksums are part of the names, the files of an older manifest stay right until the new
    one has replaced it. Then those that it alone knew are removed.
    """
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise ExportError(f"output: {folder} has files already; --force writes into it")
    contents: dict[Path, bytes | str] = {}

    def enter(name: str, data: bytes) -> Entry:
        entry = Entry.of(name, data)
        contents[folder / entry.file] = data
        return entry

    manifest = Manifest(
        tuple(
            enter(f"assignment-{place}", exporter.serialized(own))
            for place, own in enumerate(assignments)
        ),
        rule,
        None if controller is None else enter("controller", controller),
        controller_bops,
    )
    contents[folder / MANIFEST] = manifest.to_json()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"output: no folder can be made at {folder}: {error}") from error
    outdated: set[Entry] = set()
    with suppress(ExportError):
        outdated = Manifest.load(folder).entries - manifest.entries
    write_new(contents, force)
    for entry in outdated:
        (folder / entry.file).unlink(missing_ok=True)
