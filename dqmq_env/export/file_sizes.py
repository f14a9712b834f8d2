"""The table of file sizes in ``docs/export.md``: ``python -m dqmq_env.export.file_sizes``.

Each shipped network is quantised after training, as its environment does it, and packed at uniform
bits and at a mix of them; the first and the last layer keep 8 bits. Beside a size stands the top-1
on the first clean images of ``test``, float included, so that nobody takes small for good.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor

from dqmq_env.envs.zoo import ZooSetting
from dqmq_env.evaluation.deployed import StaticNetwork
from dqmq_env.export.packed import packed_of
from dqmq_env.export.sizes import SizeTable, size_table
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.program import one_line_errors
from dqmq_env.progress import progress
from dqmq_env.quality.condition import CLEAN
from dqmq_env.quantization.assignment import BitAssignment

_WIDTHS = (8, 4, 3, 2)
_LARGE, _SMALL = 3, 6
_KIB = 1024


@dataclass(frozen=True)
class FileSizes:
    """What is packed.

    Attributes:
        checkpoints: names of shipped checkpoints.
        images: of ``test`` that accuracy is measured on.
    """

    checkpoints: tuple[str, ...] = ("resnet20-fashion-mnist", "mobilenetv2-fashion-mnist")
    images: int = 1_000


def file_sizes(settings: FileSizes) -> str:
    """The table as Markdown.

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    lines = [
        "| network | bits | file, KiB | of float32 | weights | steps | floats | header | top-1 |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    with progress(len(settings.checkpoints) * (len(_WIDTHS) + 3), "packing", "file") as bar:
        for checkpoint in settings.checkpoints:
            for row in _rows(checkpoint, settings.images):
                lines.append(f"| {checkpoint} | {' | '.join(row)} |")
                bar.update()
    return "\n".join(lines)


def mixed(problem: NetworkProblem) -> BitAssignment:
    """3 bits for the largest layers that together hold half of the weights, 6 for the others."""
    half = sum(spec.weights for spec in problem.layers) / 2
    large, held = set(), 0
    for spec in sorted(problem.layers, key=lambda spec: -spec.weights):
        if held < half and len(problem.candidates[spec.name]) > 1:
            large.add(spec.name)
            held += spec.weights
    low, high = problem.uniform(_LARGE), problem.uniform(_SMALL)
    return BitAssignment({name: (low if name in large else high)[name] for name in low})


def _rows(checkpoint: str, count: int) -> Iterator[Sequence[str]]:
    problem = ZooSetting(checkpoint=checkpoint).problem()
    images = problem.test.under(CLEAN)[:count]
    labels = problem.data.test.labels[:count]
    named = {f"{bits}": problem.uniform(bits) for bits in _WIDTHS}
    named[f"{_LARGE} and {_SMALL}"] = mixed(problem)
    for place, (name, assignment) in enumerate(named.items()):
        network = StaticNetwork(problem.quantized, assignment, problem.normalize)
        sizes = size_table(packed_of(network), problem.network)
        if not place:
            yield from _float_rows(sizes, _accuracy(_float_logits(problem, images), labels))
        parts = (sizes.codes, sizes.steps, sizes.floats, sizes.header)
        yield [
            name,
            f"{sizes.total / _KIB:.1f}",
            f"{sizes.total / sizes.float32:.1%}",
            *(f"{part / _KIB:.1f}" for part in parts),
            _accuracy(network(images).logits, labels),
        ]


def _float_rows(sizes: SizeTable, accuracy: str) -> Iterator[Sequence[str]]:
    for name, size in (("float32", sizes.float32), ("float32, gzip -9", sizes.gzip)):
        cells = [name, f"{size / _KIB:.1f}", f"{size / sizes.float32:.1%}"]
        yield [*cells, "", "", "", "", accuracy]


@torch.no_grad()
def _float_logits(problem: NetworkProblem, images: Tensor) -> Tensor:
    logits: Tensor = problem.network(problem.normalize(images))
    return logits


def _accuracy(logits: Tensor, labels: Tensor) -> str:
    return f"{float((logits.argmax(1) == labels).double().mean()):.1%}"


def main(words: list[str] | None = None) -> None:
    """Print the table."""
    settings = tyro.cli(FileSizes, description=__doc__, args=words)
    with one_line_errors("file_sizes"):
        print(file_sizes(settings))


if __name__ == "__main__":
    main()
