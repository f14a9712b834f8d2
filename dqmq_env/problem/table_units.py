"""Evaluating all assignments of a network, in units of work that can be done in any order."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from dqmq_env.evaluation.batch_pass import BatchPass
from dqmq_env.evaluation.statistics import batch_statistics
from dqmq_env.files import atomic_write_bytes
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import SPLITS
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import LayerBits

Arrays = dict[str, NDArray[np.generic]]
_FIRST = 2


@dataclass(frozen=True)
class Unit:
    """The assignments that begin alike, under one condition.

    Attributes:
        condition: what the images go through.
        beginning: positions of the candidates of the first decided layers.
    """

    condition: Condition
    beginning: tuple[int, ...]

    @property
    def file_name(self) -> str:
        """Where its results are kept inside a run's folder."""
        words = str(self.condition).replace("/", "-")
        return f"{words}-{'-'.join(map(str, self.beginning))}.safetensors"


def all_units(conditions: Sequence[Condition], widths: int) -> list[Unit]:
    """The units that make up a table, in the order of its rows.

    Args:
        conditions: of the table.
        widths: number of candidates of a decided layer; there are two such layers at least.
    """
    beginnings = itertools.product(range(widths), repeat=_FIRST)
    return [Unit(c, b) for c, b in itertools.product(conditions, list(beginnings))]


def evaluate_unit(problem: NetworkProblem, unit: Unit, images: Mapping[str, int]) -> Arrays:
    """Walk the assignments of a unit as one tree, each split in turn.

    Args:
        problem: gives network and images; weights and activations are decided jointly.
        unit: which assignments.
        images: number of the first images of each split.

    Returns:
        With M assignments, the last decision varying fastest: ``<split>_correct``, bits of M x
        images, packed along the images, and ``<split>_loss`` (M,), mean cross-entropy in nats. And
        ``activation_<d>``, statistics of what the d-th decided layer receives in ``search``, shape
        (ways to get there, 4).
    """
    arrays: Arrays = {}
    for split in SPLITS:
        walk = _Walk(problem, unit, split, images[split])
        arrays[f"{split}_correct"] = np.packbits(np.array(walk.correct), axis=1)
        arrays[f"{split}_loss"] = np.array(walk.loss, np.float32)
        if split == "search":
            arrays |= {f"activation_{d}": np.stack(rows) for d, rows in walk.statistics.items()}
    return arrays


def save_unit(folder: Path, unit: Unit, arrays: Arrays) -> None:
    """Write the results of a unit, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    atomic_write_bytes(folder / unit.file_name, save(contiguous))


def load_unit(folder: Path, unit: Unit) -> Arrays | None:
    """What was saved of a unit; ``None`` where it is missing or damaged."""
    try:
        arrays: Arrays = load((folder / unit.file_name).read_bytes())
    except (OSError, SafetensorError):
        return None
    return arrays


class _Walk:
    """Goes depth first through all continuations of a unit's beginning."""

    def __init__(self, problem: NetworkProblem, unit: Unit, split: str, count: int) -> None:
        self.correct: list[NDArray[np.bool_]] = []
        self.loss: list[float] = []
        self.statistics: dict[int, list[NDArray[np.float32]]] = {}
        self._problem = problem
        self._split = split
        self._beginning = unit.beginning
        device = problem.quantized.layers[0].inner.weight.device
        source = problem.search if split == "search" else problem.test
        x = problem.normalize(source.under(unit.condition)[:count])
        self._labels = source.split.labels[:count].to(device)
        with torch.no_grad():
            self._visit(problem.walker.start(x.to(device)), 0, 0)

    def _visit(self, reached: BatchPass, layer: int, decision: int) -> None:
        specs = self._problem.layers
        if layer == len(specs):
            return self._end(reached.logits)
        widths = self._problem.candidates[specs[layer].name]
        chosen = widths
        if len(widths) > 1:
            self._look(reached, layer, decision)
            if decision < len(self._beginning):
                chosen = (widths[self._beginning[decision]],)
        for width in chosen:
            after = self._problem.walker.advance(reached, LayerBits(width, width))
            self._visit(after, layer + 1, decision + (len(widths) > 1))
        return None

    def _look(self, reached: BatchPass, layer: int, decision: int) -> None:
        if self._split == "search":
            axis = self._problem.layers[layer].channel_axis
            reach = self._problem.quantized.layers[layer].activation_range
            row = batch_statistics(reached.activations, axis, reach).cpu().numpy()
            self.statistics.setdefault(decision, []).append(row)

    def _end(self, logits: Tensor) -> None:
        self.correct.append((logits.argmax(1) == self._labels).cpu().numpy())
        losses = F.cross_entropy(logits.double(), self._labels)
        self.loss.append(float(losses))
