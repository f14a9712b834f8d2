"""A card beside an export: what the network is, how it was made, what was measured of it.

It has the form of a Hugging Face model card: YAML between two lines of dashes, then Markdown.
Accuracies are in it only where an :class:`~dqmq_env.evaluation.report.Evaluation` says them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy.stats import binomtest

from dqmq_env.costs import Bops, Size, fraction
from dqmq_env.evaluation.report import Evaluation
from dqmq_env.export.contents import Packed
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.rule import Rule
from dqmq_env.version import __version__


@dataclass(frozen=True)
class CardFacts:
    """What a card says that the network itself does not know.

    Attributes:
        data: name of the data set.
        recipe: how float network and quantised network were made; names to values.
        command: that makes the export again.
        sizes: a table in Markdown.
        usage: code that loads the export.
        evaluations: of the exported network, and of others that it is compared with.
    """

    data: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    sizes: str = ""
    usage: str = ""
    evaluations: Sequence[Evaluation] = ()


def model_card(packed: Packed, facts: CardFacts) -> str:
    """The card of a network, Markdown with YAML front matter."""
    name = packed.about.name or "quantised network"
    parts = [
        _front_matter(name, packed, facts),
        f"# {name}\n\n{_summary(packed, facts)}",
        _section("Use", _code(facts.usage, "python")),
        _section("Data", _data(packed, facts)),
        _section("Recipe", "\n".join(f"* {key}: {value}" for key, value in facts.recipe.items())),
        _section("Accuracy", _accuracy(facts.evaluations)),
        _section("Cost", _cost(packed)),
        _section("Size", facts.sizes),
        _section("Bits", _bits(packed)),
        _section("Reproduce", _code(facts.command, "sh")),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(name: str, packed: Packed, facts: CardFacts) -> str:
    """YAML, in which JSON values are values too."""
    fields: dict[str, Any] = {
        "library_name": "dqmq_env",
        "pipeline_tag": "image-classification",
        "tags": ["quantization", "mixed-precision", f"scheme:{packed.network.scheme}"],
    }
    if facts.data:
        fields["datasets"] = [facts.data]
    if facts.evaluations:
        fields["metrics"] = ["accuracy"]
        fields["model-index"] = [
            {
                "name": name,
                "results": [
                    _result(row.condition, row.accuracy, facts.data)
                    for row in facts.evaluations[0].rows
                ],
            }
        ]
    lines = [f"{key}: {json.dumps(value)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _result(condition: str, accuracy: float, data: str) -> dict[str, Any]:
    return {
        "task": {"type": "image-classification"},
        "dataset": {"name": f"{data}, {condition}", "type": data},
        "metrics": [{"type": "accuracy", "value": round(accuracy, 4)}],
    }


def _summary(packed: Packed, facts: CardFacts) -> str:
    architecture = packed.about.architecture.get("name", "a network")
    if isinstance(packed.bits, Rule):
        bits = "the bits of its layers follow the condition of the images, which has to be told"
    elif packed.bits is None:
        bits = "a policy gives its layers their bits"
    else:
        bits = "each layer has bits of its own"
    count = sum(spec.weights for spec in packed.network.specs)
    return (
        f"A quantised {architecture} of {len(packed.network.layers)} layers and {count:,} weights: "
        f"{bits}. Made with dqmq_env {__version__}."
    )


def _data(packed: Packed, facts: CardFacts) -> str:
    mean, std = (
        ", ".join(f"{value:.6g}" for value in values) for values in (packed.mean, packed.std)
    )
    lines = [f"* data set: {facts.data}"] if facts.data else []
    lines.append(f"* normalisation, on the [0, 1] scale: mean {mean}; std {std}")
    if packed.about.classes:
        lines.append(f"* {len(packed.about.classes)} classes: {', '.join(packed.about.classes)}")
    return "\n".join(lines)


def _accuracy(evaluations: Sequence[Evaluation]) -> str:
    if not evaluations:
        return "Not evaluated."
    return "\n\n".join(_evaluation(own) for own in evaluations) + (
        "\n\nTop-1 with 95% intervals: Wilson's for a condition, the normal one for the mean. They "
        "speak of the choice of images, not of the spread between training runs."
    )


def _evaluation(own: Evaluation) -> str:
    lines = [
        f"{own.name}:\n",
        "| condition | images | accuracy | 95% interval | BOPs, of those at 8 bits |",
        "|---|---:|---:|---|---:|",
    ]
    for row in own.rows:
        found = binomtest(row.correct, row.images).proportion_ci(method="wilson")
        lines.append(
            f"| {row.condition} | {row.images} | {row.accuracy:.2%} | "
            f"{found.low:.2%} to {found.high:.2%} | {row.cost:.1%} |"
        )
    low, high = own.interval
    lines.append(f"| mean | | {own.accuracy:.2%} | {low:.2%} to {high:.2%} | {own.cost:.1%} |")
    return "\n".join(lines)


def _cost(packed: Packed) -> str:
    lines = ["| bits | size, of that at 8 bits | BOPs, of those at 8 bits |", "|---|---:|---:|"]
    for name, own in _assignments(packed).items():
        size, bops = (fraction(cost, packed.network.specs, own) for cost in (Size(), Bops()))
        lines.append(f"| {name} | {size:.1%} | {bops:.1%} |")
    return "\n".join(lines)


def _bits(packed: Packed) -> str:
    """Weight and activation bits of each layer, in forward order."""
    assignments = _assignments(packed)
    lines = [f"| layer | {' | '.join(assignments)} |", f"|---|{'---:|' * len(assignments)}"]
    for spec in packed.network.specs:
        pairs = [assignment[spec.name] for assignment in assignments.values()]
        cells = " | ".join(f"{pair.weight}/{pair.activation}" for pair in pairs)
        lines.append(f"| `{spec.name}` | {cells} |")
    return "Bits of weights / bits of the activation that they meet.\n\n" + "\n".join(lines)


def _assignments(packed: Packed) -> dict[str, BitAssignment]:
    if isinstance(packed.bits, Rule):
        return {str(condition): own for condition, own in packed.bits.items()}
    if packed.bits is None:
        return {"widest": packed.network.widest}
    return {"all images": packed.bits}


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _code(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```" if text else ""
