"""Put a table together from the units that were evaluated."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dqmq_env.errors import TableError
from dqmq_env.machine import processor_name
from dqmq_env.problem.fronts import pareto
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.quality_value import CRITERIA
from dqmq_env.problem.table import SPLITS, Table, TableCard
from dqmq_env.problem.table_answers import answers_of
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.problem.table_units import Arrays, all_units, load_unit
from dqmq_env.quality import Condition
from dqmq_env.quantization.integer_kernel import integers_are_fast
from dqmq_env.zoo.checkpoints import Card


def assemble(
    problem: NetworkProblem,
    checkpoint: Card,
    conditions: Sequence[Condition],
    images: Mapping[str, int],
    recipe: Mapping[str, Any],
    run: Path,
) -> Table:
    """The table of a live problem.

    Args:
        problem: that the units were evaluated with.
        checkpoint: of its network.
        conditions: of the units.
        images: number of images of each split.
        recipe: settings of the script, for the card.
        run: folder of the units.

    Raises:
        TableError: units are missing.
    """
    decided = [spec.name for spec in problem.layers if len(problem.candidates[spec.name]) > 1]
    widths = len(problem.candidates[decided[0]])
    units = all_units(conditions, widths)
    found = [load_unit(run, unit) for unit in units]
    missing = [unit.file_name for unit, own in zip(units, found, strict=True) if own is None]
    if missing:
        raise TableError(f"--run: {run} lacks {len(missing)} of {len(units)} units: {missing[:3]}")
    done = [own for own in found if own is not None]
    length = len(done) // len(conditions)
    rows = [done[start : start + length] for start in range(0, len(done), length)]
    hits = {split: _hits(rows, split, images[split]) for split in SPLITS}
    begun = problem.start(conditions, [0] * len(conditions))
    arrays: dict[str, NDArray[Any]] = {
        "quality": begun.quality,
        "thumbnails": begun.images,
        "weight_error": _stacked(problem.weight_error(name) for name in decided),
    }
    for split in SPLITS:
        arrays[f"{split}_hits"] = hits[split].sum(2, dtype=np.uint16)
        losses = [np.concatenate([own[f"{split}_loss"] for own in row]) for row in rows]
        arrays[f"{split}_loss"] = np.stack(losses)
    for decision in range(len(decided)):
        arrays[f"activation_{decision}"] = _stacked(
            _statistics(row, decision, widths) for row in rows
        )
    card = TableCard(
        name=checkpoint.name,
        checkpoint=checkpoint.name,
        checkpoint_sha256=checkpoint.sha256,
        layers=[spec.to_dict() for spec in problem.layers],
        candidates=[list(problem.candidates[spec.name]) for spec in problem.layers],
        conditions=[str(condition) for condition in conditions],
        images=dict(images),
        recipe={"command": "python -m dqmq_env.problem.build_table", **recipe},
        versions={
            "python": platform.python_version(),
            "torch": version("torch"),
            "processor": processor_name(),
            "kernels": "integer" if integers_are_fast() else "float",
        },
    )
    table = Table(card, arrays)
    front = _fronts(TableProblem(table))
    arrays["front"] = front
    for split in SPLITS:
        arrays[f"{split}_front"] = np.packbits(hits[split][:, front], axis=2)
    return replace(table, arrays=arrays)


def _hits(rows: Sequence[Sequence[Arrays]], split: str, images: int) -> NDArray[np.bool_]:
    """Which images are classified correctly, shape (C, N, images)."""
    packed = [np.concatenate([own[f"{split}_correct"] for own in row]) for row in rows]
    return np.unpackbits(np.stack(packed), axis=2, count=images).astype(np.bool_)


def _statistics(row: Sequence[Arrays], decision: int, widths: int) -> NDArray[np.generic]:
    """Statistics of one condition before a decision, shape (widths ** decision, 4).

    Units that differ only in later decisions have the same.
    """
    alike = max(1, len(row) // widths**decision)
    return np.concatenate([own[f"activation_{decision}"] for own in row[::alike]])


def _fronts(problem: TableProblem) -> NDArray[np.int32]:
    """The assignments on some front of accuracy or loss, under a condition or all."""
    found = []
    for cost in problem.costs:
        for criterion in CRITERIA:
            answers = answers_of(problem, cost.name, criterion)
            mean = answers.probabilities @ answers.score
            found += [pareto(answers.costs, row) for row in (*answers.score, mean)]
    return np.unique(np.concatenate(found)).astype(np.int32)


def _stacked(rows: Any) -> NDArray[Any]:
    return np.stack(list(rows))
