"""ONNX as a target of ``dqmq export``."""

from pathlib import Path

from dqmq_env.costs import Size, total
from dqmq_env.export.contents import About
from dqmq_env.export.model_card import CardFacts, model_card
from dqmq_env.export.onnx_exporter import OnnxExporter, dynamic_model
from dqmq_env.export.onnx_folder import save_rule
from dqmq_env.export.packed import pack
from dqmq_env.export.sizes import float_file
from dqmq_env.export.source import Source
from dqmq_env.export.targets import Output
from dqmq_env.export.writing import check_new, write_new
from dqmq_env.search.rule import Rule


def write_onnx(source: Source, output: Output, opset: int) -> str:
    """One file, or for a rule a folder of them, and a model card beside it.

    Args:
        source: what is exported.
        output: a file, or the folder.
        opset: see :class:`~dqmq_env.export.onnx_exporter.OnnxExporter`.
    """
    card, path = output.beside(".md"), output.path
    check_new([card], output.force)
    dynamic = source.dynamic
    if dynamic is not None:
        model = dynamic_model(source.problem, source.network, dynamic, opset)
        write_new({path: model.SerializeToString(deterministic=True)}, output.force)
        files, usage = [path], _DYNAMIC_USAGE.format(path=path.name)
    else:
        files, usage = _write_settled(source, output, opset)
    sizes = _sizes(source, files)
    about = About(path.stem, source.architecture, source.problem.data.classes)
    facts = CardFacts(
        data=source.problem.data.name,
        recipe=source.recipe,
        command=source.command,
        sizes=sizes,
        usage=usage,
        evaluations=source.evaluations,
    )
    slot = None if dynamic is None else dynamic.slot
    packed = pack(source.network, source.bits, source.problem.normalize, about, slot)
    write_new({card: model_card(packed, facts)}, output.force)
    return "\n".join([sizes, "", f"ONNX  {path}, opset {opset}", f"card  {card}"])


def _write_settled(source: Source, output: Output, opset: int) -> tuple[list[Path], str]:
    """Files of a network whose bits are known beforehand, and how to use them."""
    exporter, bits = OnnxExporter.over(source.problem, source.network, opset), source.settled
    path = output.path
    if isinstance(bits, Rule):
        save_rule(exporter, bits, path, output.force)
        usage = _FOLDER_USAGE.format(path=path.name, condition=next(iter(bits)))
        return sorted(path.glob("*.onnx")), usage
    exporter.save(bits, path, output.force)
    return [path], _FILE_USAGE.format(path=path.name)


_FILE_USAGE = """import onnxruntime

session = onnxruntime.InferenceSession("{path}")
(logits,) = session.run(None, {{"images": images}})  # uint8, (N, C, H, W)"""

_FOLDER_USAGE = """from pathlib import Path

from dqmq_env.export import OnnxFolder

network = OnnxFolder(Path("{path}")).under("{condition}")  # or another condition
prediction = network(images)  # uint8, (N, C, H, W): logits, cost, bits"""


_DYNAMIC_USAGE = """from pathlib import Path

from dqmq_env.export import OnnxDynamic

network = OnnxDynamic.load(Path("{path}"))
prediction = network(images)  # uint8, (N, C, H, W): logits, cost, bits"""


def _sizes(source: Source, files: list[Path]) -> str:
    layers = source.problem.layers
    if source.dynamic is None:
        bits = source.settled
        assignments = dict.fromkeys(bits.values() if isinstance(bits, Rule) else [bits])
        weights = [total(Size(), layers, own) / 8 for own in assignments]
    else:  # one graph, in which each width that a layer can have is there once
        options = source.network.options
        weights = [
            spec.weights * sum({own.weight for own in options[spec.name]}) / 8 for spec in layers
        ]
    rows = [
        ("ONNX, all files", sum(path.stat().st_size for path in files)),
        ("cost `size` of the weights, all files", sum(weights)),
        ("float32 file", len(float_file(source.problem.network))),
    ]
    lines = ["| | bytes |", "|---|---:|", *(f"| {what} | {value:,.0f} |" for what, value in rows)]
    return "\n".join(lines)
