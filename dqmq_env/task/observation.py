"""The observation: one flat vector whose features have names, ranges and places."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dqmq_env.costs import Bops, Size, reference
from dqmq_env.errors import SettingError
from dqmq_env.evaluation.statistic_table import ACTIVATION_STATISTICS
from dqmq_env.problem.protocol import Problem
from dqmq_env.quality import DESCRIPTOR_NAMES
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.grid import MAX_BITS
from dqmq_env.task.decisions import ACTIVATION, Plan

LAYER = (
    "depthwise",
    "in_channels",
    "out_channels",
    "stride",
    "kernel",
    "weights",
    "input_size",
    "size_share",
    "bops_share",
)
PROGRESS = ("index", "spent", "slack", "previous", "activation")


@dataclass(frozen=True)
class ObservationLayout:
    """Where each part of an observation stands.

    Attributes:
        candidates: the candidate bits, which the ``error`` part has a feature for each of.
    """

    candidates: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every feature, ``part.feature``, in order."""
        errors = tuple(f"{bits}_bits" for bits in self.candidates)
        parts = {
            "quality": DESCRIPTOR_NAMES,
            "activation": ACTIVATION_STATISTICS,
            "layer": LAYER,
            "error": errors,
            "progress": PROGRESS,
        }
        return tuple(f"{part}.{name}" for part, names in parts.items() for name in names)

    def part(self, name: str) -> slice:
        """The slice of ``quality``, ``activation``, ``layer``, ``error`` or ``progress``."""
        places = [i for i, full in enumerate(self.names) if full.startswith(f"{name}.")]
        if not places:
            raise SettingError(f"name: no part {name!r} in {self.names}")
        return slice(places[0], places[-1] + 1)

    def place(self, name: str) -> int:
        """The index of a feature, e.g. ``progress.index``."""
        return self.names.index(name)


class Observer:
    """Builds observations of shape (N, features), float32, in [0, 1].

    Args:
        problem: gives what is known of its layers beforehand.
        plan: the decisions.
    """

    def __init__(self, problem: Problem, plan: Plan) -> None:
        self.layout = ObservationLayout(plan.candidates)
        self._static = _static_features(problem, plan)
        self._parts = [decision.part for decision in plan.decisions]

    def observe(
        self,
        decision: int,
        quality: NDArray[np.float32],
        activation: NDArray[np.float32],
        spent: NDArray[np.float64],
        slack: NDArray[np.float64],
        previous: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """The observations before a decision; after the last one, ``decision`` is their number.

        Args:
            decision: how many decisions were taken.
            quality: descriptors, shape (N, 6).
            activation: statistics, shape (N, 4); ignored after the last decision.
            spent: cost of the layers so far, as a fraction of the whole at 8 bits, shape (N,).
            slack: how free the remaining decisions are, shape (N,).
            previous: bits of the previous decision, 0 before the first, shape (N,).
        """
        count, decisions = len(quality), len(self._parts)
        over = decision == decisions
        static = np.zeros_like(self._static[0]) if over else self._static[decision]
        part = np.full(count, 0 if over else self._parts[decision] == ACTIVATION)
        index = np.full(count, decision / decisions)
        progress = np.stack([index, spent, slack, previous / MAX_BITS, part], 1)
        features = (
            quality,
            np.zeros_like(activation) if over else activation,
            np.broadcast_to(static, (count, len(static))),
            progress,
        )
        clipped = np.clip(np.concatenate(features, 1), 0, 1)
        return np.asarray(clipped, np.float32)


def _static_features(problem: Problem, plan: Plan) -> NDArray[np.float64]:
    """Features known beforehand, shape (decisions, features).

    Counts are fractions of the largest among the decided layers; shares are of the whole network.
    """
    specs = [problem.layers[decision.layer] for decision in plan.decisions]
    counts = np.array(
        [
            [
                float(spec.kind == "depthwise"),
                spec.in_channels,
                spec.out_channels,
                spec.stride,
                spec.kernel,
                spec.weights,
                float(np.prod(spec.input_sides)),
            ]
            for spec in specs
        ]
    )
    counts /= np.maximum(counts.max(0), 1)
    eight = LayerBits(8, 8)
    shares = np.array(
        [
            [cost.of(spec, eight) / reference(cost, problem.layers) for cost in (Size(), Bops())]
            for spec in specs
        ]
    )
    errors = np.array(
        [
            problem.activation_error(spec.name)
            if decision.part == ACTIVATION
            else problem.weight_error(spec.name)
            for spec, decision in zip(specs, plan.decisions, strict=True)
        ]
    )
    return np.concatenate([counts, shares, errors], 1)
