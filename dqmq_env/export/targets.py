"""What an export may be written as: one function for each, by the name that the command knows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch

from dqmq_env.errors import ExportError, SettingError
from dqmq_env.evaluation.deployed import Deployed, StaticNetwork
from dqmq_env.export.bits_file import plain_text
from dqmq_env.export.brevitas import brevitas_json, brevitas_markdown
from dqmq_env.export.contents import About, Packed
from dqmq_env.export.model_card import CardFacts, model_card
from dqmq_env.export.packed import encoded, pack, snapped
from dqmq_env.export.sizes import size_table
from dqmq_env.export.source import Source
from dqmq_env.export.writing import write_new
from dqmq_env.quality.condition import Condition
from dqmq_env.quality.corruptions import corrupt
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.search.rule import Rule
from dqmq_env.zoo.architectures import architecture_names

_JUDGED = 2_000
"""Images, shared out among conditions, that tell how often two networks agree."""


@dataclass(frozen=True)
class Output:
    """Where an export goes, and how.

    Attributes:
        path: of the file.
        force: replace files that are there.
        weights: of a layer that has several widths, ``every`` keeps each as it is, ``widest`` has
            the narrower follow from the widest, which are stored alone.
    """

    path: Path
    force: bool = False
    weights: str = "every"

    def beside(self, suffix: str) -> Path:
        """The path of a file that goes with it."""
        return self.path.with_name(self.path.name + suffix)


Target = Callable[[Source, Output], str]
"""Writes an export; returns what the command prints."""


def write_packed(source: Source, output: Output) -> str:
    """A packed file, and a model card beside it."""
    lines = []
    network = source.network
    if not isinstance(source.bits, BitAssignment) and output.weights == "widest":
        network = snapped(source.network, source.bits)
        lines.append(_agreement(source, network))
    about = About(output.path.stem, source.architecture, source.problem.data.classes)
    policy = None if source.dynamic is None else source.dynamic.slot
    packed = pack(network, source.bits, source.problem.normalize, about, policy)
    sizes = size_table(packed, source.problem.network)
    facts = CardFacts(
        data=source.problem.data.name,
        recipe=source.recipe,
        command=source.command,
        sizes=sizes.markdown(),
        usage=_usage(packed, output.path),
        evaluations=source.evaluations,
    )
    card = output.beside(".md")
    write_new({output.path: encoded(packed), card: model_card(packed, facts)}, output.force)
    return "\n".join([sizes.text(), "", *lines, f"file  {output.path}", f"card  {card}"])


def write_plain(source: Source, output: Output) -> str:
    """The bits as plain JSON."""
    write_new({output.path: plain_text(source.settled)}, output.force)
    return f"bits  {output.path}"


def write_brevitas(source: Source, output: Output) -> str:
    """The bits as Brevitas takes them, as JSON and, beside it, as a Markdown table."""
    bits = source.settled
    if not isinstance(bits, BitAssignment):
        raise ExportError("--to brevitas: got a rule, allowed is one assignment")
    table = brevitas_markdown(source.problem.layers, bits)
    texts = {
        output.path: brevitas_json(source.problem.layers, bits),
        output.beside(".md"): table,
    }
    write_new(texts, output.force)
    return table


def write_onnx(source: Source, output: Output, opset: int) -> str:
    """ONNX, whose packages not everybody has."""
    from dqmq_env.export.onnx_target import write_onnx

    return write_onnx(source, output, opset)


TARGETS: Final[Mapping[str, Target]] = {
    "packed": write_packed,
    "onnx": partial(write_onnx, opset=25),
    "onnx21": partial(write_onnx, opset=21),
    "plain": write_plain,
    "brevitas": write_brevitas,
}
"""By the name that ``--to`` takes."""


def target_by_name(name: str) -> Target:
    """The target of that name.

    Raises:
        SettingError: there is none.
    """
    if name not in TARGETS:
        raise SettingError(f"--to: got {name!r}, allowed are {', '.join(TARGETS)}")
    return TARGETS[name]


def _agreement(source: Source, network: QuantizedNetwork) -> str:
    """How often the classes are those of the network whose widths are rounded one by one."""
    same, costs = [], []
    pairs = list(zip(_at_work(source, source.network), _at_work(source, network), strict=True))
    split = source.problem.search.split
    each = min(len(split), max(1, _JUDGED // len(pairs)))
    for number, ((condition, one), (_, other)) in enumerate(pairs):
        chosen = (torch.arange(each) + number * each) % len(split)
        images = corrupt(split.images[chosen], condition, generator=number)
        before, after = one(images), other(images)
        same.append(torch.eq(before.logits.argmax(1), after.logits.argmax(1)))
        costs.append(torch.stack([before.cost, after.cost], 1))
    agreed, (cost, now) = torch.cat(same).float(), torch.cat(costs).mean(0).tolist()
    return (
        "narrower weights are derived from the widest: top-1 is that of the network before on "
        f"{float(agreed.mean()):.2%} of {len(agreed)} search images, over {len(pairs)} conditions; "
        f"BOPs are {now:.2%} of those at 8 bits, before {cost:.2%}"
    )


def _at_work(
    source: Source, network: QuantizedNetwork
) -> Iterator[tuple[Condition | str, Deployed]]:
    """What the network is under each condition that it may meet."""
    problem = source.problem
    if source.dynamic is None:
        assert isinstance(source.bits, Rule)
        for condition, assignment in source.bits.items():
            yield condition, StaticNetwork(network, assignment, problem.normalize)
        return
    deployed = source.dynamic.at_work(network.folded())
    for condition in problem.mixture.conditions:
        yield condition, deployed


def _usage(packed: Packed, path: Path) -> str:
    given = "" if packed.about.architecture.get("name") in architecture_names() else ", network"
    lines = [
        "from dqmq_env.export import load",
        "",
        f'network = load("{path.name}"{given})'
        + ("  # network: a module of this architecture" if given else ""),
    ]
    if isinstance(packed.bits, Rule):
        lines.append(
            f'network = network.under("{next(iter(packed.bits))}")  # or another condition'
        )
    lines.append("prediction = network(images)  # uint8, (N, C, H, W): logits, cost, bits")
    return "\n".join(lines)
