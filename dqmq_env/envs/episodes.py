"""What episodes are about and what is known of them at their end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dqmq_env.problem.protocol import Outcome
from dqmq_env.quality.condition import Condition

Figures = Mapping[str, "NDArray[Any] | Figures"]
"""Name to an array with a row for each episode, or to further figures."""


@dataclass(frozen=True, eq=False)
class Starts:
    """What N episodes are about.

    Attributes:
        conditions: that occur among them.
        rows: the condition of each, as an index, shape (N,).
        batches: the batch of ``search`` images of each, shape (N,).
    """

    conditions: tuple[Condition, ...]
    rows: NDArray[np.int64]
    batches: NDArray[np.int64]

    @classmethod
    def of(cls, conditions: Sequence[Condition], batches: Sequence[int]) -> Self:
        """From a condition and a batch for each."""
        return cls(tuple(conditions), np.arange(len(conditions)), np.array(batches, np.int64))


@dataclass(frozen=True, eq=False)
class Finished:
    """What is known at the end of N episodes.

    Attributes:
        layers: names of all layers in forward order.
        bits: as executed, of weights and activation of each layer, shape (N, layers, 2).
        outcome: accuracy and loss.
        costs: name to fractions of the cost at 8 bits, shape (N,).
        lowered: number of actions that the budget lowered, shape (N,).
        further: other figures, which a table of all assignments knows.
    """

    layers: tuple[str, ...]
    bits: NDArray[np.int64]
    outcome: Outcome
    costs: Mapping[str, NDArray[np.float64]]
    lowered: NDArray[np.int64]
    further: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def figures(self) -> Figures:
        """All of it as ``info`` names it."""
        return {
            "assignment": {name: self.bits[:, i] for i, name in enumerate(self.layers)},
            "accuracy": self.outcome.accuracy,
            "loss": self.outcome.loss,
            "costs": self.costs,
            "lowered": self.lowered,
            **self.further,
        }


def figures_of(figures: Figures, episode: int) -> dict[str, Any]:
    """Those of one episode, in plain Python values."""
    return {
        name: values[episode].tolist()
        if isinstance(values, np.ndarray)
        else figures_of(values, episode)
        for name, values in figures.items()
    }


def masked(figures: Figures, count: int) -> dict[str, Any]:
    """Those of all episodes as Gymnasium's vector environments give them.

    Beside each key stands ``_key``, which says of each of ``count`` episodes that it has a value.
    """
    info: dict[str, Any] = {}
    for name, values in figures.items():
        info[name] = values if isinstance(values, np.ndarray) else masked(values, count)
        info[f"_{name}"] = np.ones(count, np.bool_)
    return info
