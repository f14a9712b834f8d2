"""ONNX as a target of ``dqmq export``."""

from pathlib import Path

from dqmq_env.costs import Size, total
from dqmq_env.export.contents import About
from dqmq_env.export.model_card import CardFacts, model_card
from dqmq_env.export.onnx_exporter import OnnxExporter
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
    exporter = OnnxExporter.over(source.problem, source.network, opset)
    if isinstance(source.bits, Rule):
        save_rule(exporter, source.bits, path, output.force)
        files = sorted(path.glob("*.onnx"))
        usage = _FOLDER_USAGE.format(path=path.name, condition=next(iter(source.bits)))
    else:
        exporter.save(source.bits, path, output.force)
        files, usage = [path], _FILE_USAGE.format(path=path.name)
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
    packed = pack(source.network, source.bits, source.problem.normalize, about)
    write_new({card: model_card(packed, facts)}, output.force)
    return "\n".join([sizes, "", f"ONNX  {path}, opset {opset}", f"card  {card}"])


_FILE_USAGE = """import onnxruntime

session = onnxruntime.InferenceSession("{path}")
(logits,) = session.run(None, {{"images": images}})  # uint8, (N, C, H, W)"""

_FOLDER_USAGE = """from pathlib import Path

from dqmq_env.export import OnnxFolder

network = OnnxFolder(Path("{path}")).under("{condition}")  # or another condition
prediction = network(images)  # uint8, (N, C, H, W): logits, cost, bits"""


def _sizes(source: Source, files: list[Path]) -> str:
    bits = source.bits
    assignments = dict.fromkeys(bits.values() if isinstance(bits, Rule) else [bits])
    weights = [total(Size(), source.problem.layers, own) / 8 for own in assignments]
    rows = [
        ("ONNX, all files", sum(path.stat().st_size for path in files)),
        ("cost `size` of the weights, all files", sum(weights)),
        ("float32 file", len(float_file(source.problem.network))),
    ]
    lines = ["| | bytes |", "|---|---:|", *(f"| {what} | {value:,.0f} |" for what, value in rows)]
    return "\n".join(lines)
