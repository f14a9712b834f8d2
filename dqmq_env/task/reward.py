"""Rewards of finished episodes, and potentials that spread them over the steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dqmq_env.costs import COST_NAMES
from dqmq_env.errors import SettingError
from dqmq_env.problem.protocol import Outcome

Costs = Mapping[str, NDArray[np.float64]]
"""Name of a cost to its fractions of the cost at 8 bits, each of shape (N,)."""


class Reward(Protocol):
    """Judges finished episodes."""

    def __call__(self, outcome: Outcome, costs: Costs) -> NDArray[np.float64]:
        """Rewards, shape (N,).

        Args:
            outcome: of N episodes.
            costs: of their assignments.
        """
        ...


@dataclass(frozen=True)
class WeightedReward:
    """Accuracy against compression: ``(1 - weight) * accuracy + weight * (1 - cost)``, in [0, 1].

    Attributes:
        cost: name of the cost, a fraction of that at 8 bits, cut at 1.
        weight: of compression, in [0, 1].
    """

    cost: str = "bops"
    weight: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise SettingError(f"weight: got {self.weight}, allowed are 0 to 1")
        if self.cost not in COST_NAMES:
            raise SettingError(f"cost: got {self.cost!r}, allowed are {list(COST_NAMES)}")

    def __call__(self, outcome: Outcome, costs: Costs) -> NDArray[np.float64]:
        """See :class:`Reward`.

        Raises:
            SettingError: the costs of the problem are others.
        """
        if self.cost not in costs:
            raise SettingError(f"cost: got {self.cost!r}, the problem states {list(costs)}")
        saved = 1 - np.minimum(costs[self.cost], 1)
        return (1 - self.weight) * outcome.accuracy + self.weight * saved


@dataclass(frozen=True)
class AccuracyReward:
    """The accuracy alone, in [0, 1]: for tasks whose budget is hard."""

    def __call__(self, outcome: Outcome, costs: Costs) -> NDArray[np.float64]:
        """See :class:`Reward`."""
        return outcome.accuracy.copy()


@dataclass(frozen=True)
class HaqReward:
    """HAQ's own: a tenth of the accuracy gained, in percent points: ``10 * (accuracy - original)``.

    Wang et al. 2019, equation 4 with lambda = 0.1; in [-10, 10].

    Attributes:
        original: accuracy of the float network, in [0, 1].
    """

    original: float

    def __call__(self, outcome: Outcome, costs: Costs) -> NDArray[np.float64]:
        """See :class:`Reward`."""
        return 0.1 * 100 * (outcome.accuracy - self.original)


class Potential(Protocol):
    """Says how good a state is, so that rewards can come before the end."""

    def __call__(self, spent: NDArray[np.float64]) -> NDArray[np.float64]:
        """The potential of N episodes that have ``spent`` that fraction of the cost, shape (N,)."""
        ...


@dataclass(frozen=True)
class NoPotential:
    """Every state is as good: the reward comes at the end alone."""

    def __call__(self, spent: NDArray[np.float64]) -> NDArray[np.float64]:
        """See :class:`Potential`."""
        return np.zeros_like(spent)


@dataclass(frozen=True)
class CostPotential:
    """What is spent is known at once: ``-weight * spent``.

    With potential-based shaping (Ng, Harada and Russell 1999) each step is rewarded with the
    difference of potentials; the state after the end has the potential of the beginning, so that
    undiscounted returns stay what they are without it.

    Attributes:
        weight: of compression, as in :class:`WeightedReward`.
    """

    weight: float = 0.2

    def __call__(self, spent: NDArray[np.float64]) -> NDArray[np.float64]:
        """See :class:`Potential`."""
        return -self.weight * spent
