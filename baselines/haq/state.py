"""What HAQ's agent sees before each decision."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from baselines.haq.quirks import FLAG_OVERWRITTEN, RAW_LAST_BITS, STALE_FIRST_OBSERVATION
from dqmq_env.problem.protocol import Problem
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.task.decisions import ACTIVATION, Plan

_FIRST_RAW_BITS = 4.0


def layer_features(specs: Sequence[LayerSpec]) -> NDArray[np.float64]:
    """What is known of layers, shape (layers, 8), each column scaled over the layers to [0, 1].

    In order: whether there are as many groups as input channels, input channels, output channels,
    stride, side of the kernel, number of weights, width times height of the input, index. A linear
    layer has no groups, stride 0 and its number of inputs as the size of its input. A column whose
    numbers are all equal stays as it is.
    """
    rows = np.array([_unscaled(spec, index) for index, spec in enumerate(specs)], np.float64)
    low, high = rows.min(0), rows.max(0)
    varied = high > low
    rows[:, varied] = (rows[:, varied] - low[varied]) / (high - low)[varied]
    return rows


def _unscaled(spec: LayerSpec, index: int) -> tuple[float, ...]:
    if spec.kind == "linear":
        shape = (0, spec.in_channels, spec.out_channels, 0, 1, spec.weights, spec.in_channels)
    else:
        alone = int(spec.groups == spec.in_channels)
        size = int(np.prod(spec.input_shape[1:]))
        channels = (spec.in_channels, spec.out_channels)
        shape = (alone, *channels, spec.stride, spec.kernel, spec.weights, size)
    return (*shape, index)


class States:
    """Observations of HAQ's two modes, told apart by the decisions that a task takes.

    Where activations are decided after weights, ten features: those of the layer, the bits decided
    last as a fraction of the widest candidate, and a flag for what is decided now. Where there is
    one decision a layer, nine: those of the layer and the bits decided last.

    Args:
        problem: gives the layers; those that leave no choice are not seen.
        plan: the decisions.
        quirks: see :mod:`baselines.haq.quirks`.
    """

    def __init__(self, problem: Problem, plan: Plan, quirks: Collection[str]) -> None:
        decided = sorted({decision.layer for decision in plan.decisions})
        layers = layer_features([problem.layers[layer] for layer in decided])
        parts = np.array([decision.part for decision in plan.decisions])
        rows = [decided.index(decision.layer) for decision in plan.decisions]
        self._two_parts = bool((parts == ACTIVATION).any())
        raw = RAW_LAST_BITS in quirks and not self._two_parts
        self._unit = 1.0 if raw else float(plan.candidates[-1])
        last = _FIRST_RAW_BITS if raw else 1.0
        columns = [layers[rows], np.full((len(rows), 1), last)]
        if self._two_parts:
            columns.append(_flags(parts, FLAG_OVERWRITTEN in quirks)[:, None])
        self._rows = np.concatenate(columns, 1).astype(np.float32)
        self._last = layers.shape[1]
        self._stale = STALE_FIRST_OBSERVATION in quirks and rows[:2] == [0, 0]

    @property
    def features(self) -> int:
        """Length of an observation: 10 or 9."""
        return int(self._rows.shape[1])

    def first(self, previous: Sequence[int] | None = None) -> NDArray[np.float32]:
        """The observation that an episode begins with, shape (features,).

        Args:
            previous: bits of the decisions of the episode before; ``None`` if there was none.
        """
        if self._stale and previous is not None:
            return self.after(previous[:1])
        return np.array(self._rows[0])

    def after(self, bits: Sequence[int]) -> NDArray[np.float32]:
        """The observation after some decisions, but not all, shape (features,).

        Args:
            bits: of the decisions so far, one or more.
        """
        row: NDArray[np.float32] = self._rows[len(bits)].copy()
        row[self._last] = bits[-1] / self._unit
        return row

    def episode(
        self, bits: Sequence[int], previous: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """All observations of an episode, shape (decisions, features).

        Args:
            bits: of each decision.
            previous: see :meth:`first`.
        """
        later = [self.after(bits[:number]) for number in range(1, len(bits))]
        return np.stack([self.first(previous), *later])


def _flags(parts: NDArray[np.int64], overwritten: bool) -> NDArray[np.float64]:
    """What is decided: 1 for weights and 0 for activations, or what HAQ's code makes of it."""
    if not overwritten:
        return np.where(parts == ACTIVATION, 0.0, 1.0)
    flags = np.where(parts == ACTIVATION, 1.0, 0.0)
    flags[0] = 1.0
    return flags
