"""Rewards, on a common scale from 0 to 1."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dqmq_env.errors import SettingError
from dqmq_env.problem.protocol import Outcome


class Reward(Protocol):
    """Judges a finished episode."""

    def __call__(
        self, outcome: Outcome, costs: Mapping[str, NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """Rewards in [0, 1], shape (N,).

        Args:
            outcome: of N episodes.
            costs: name of a cost to its fractions of the cost at 8 bits, each of shape (N,).
        """
        ...


@dataclass(frozen=True)
class WeightedReward:
    """Accuracy against compression: ``(1 - weight) * accuracy + weight * (1 - cost)``.

    Attributes:
        cost: name of the cost, a fraction of that at 8 bits, cut at 1.
        weight: of compression, in [0, 1].
    """

    cost: str = "bops"
    weight: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise SettingError(f"weight: got {self.weight}, allowed are 0 to 1")

    def __call__(
        self, outcome: Outcome, costs: Mapping[str, NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """See :class:`Reward`."""
        saved = 1 - np.minimum(costs[self.cost], 1)
        return (1 - self.weight) * outcome.accuracy + self.weight * saved
