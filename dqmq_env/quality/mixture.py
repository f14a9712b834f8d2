"""Mixtures: how often each condition occurs among the images that come."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dqmq_env.errors import ConditionError
from dqmq_env.quality.condition import CLEAN, DEFAULT_CORRUPTIONS, SEVERITIES, Condition

SCHEMA_VERSION: Final = 1

Weights = Mapping[Condition, float] | Mapping[str, float] | Mapping[Condition | str, float]


class Mixture:
    """An immutable probability distribution over conditions.

    Args:
        weights: Conditions, or their texts, with finite weights of 0 or more. They are divided by
            their sum (unless that is 1 to within 1e-9, so that a mixture read back from its JSON
            is equal to the one written); conditions of weight 0 are dropped.

    Raises:
        ConditionError: There is no positive weight, a weight is negative, infinite or NaN, a
            condition comes twice, or a text is no condition.
    """

    __slots__ = ("_conditions", "_cumulative", "_probabilities")

    def __init__(self, weights: Weights) -> None:
        parsed: dict[Condition, float] = {}
        for key, weight in weights.items():
            condition = Condition.parse(key)
            if condition in parsed:
                raise ConditionError(f"weights: got {condition} twice, must be once at most")
            if not (math.isfinite(weight) and weight >= 0):
                raise ConditionError(
                    f"weights: got {weight!r} for {condition}, must be finite and 0 or more"
                )
            parsed[condition] = float(weight)
        total = _sum(parsed.values())
        if not 0 < total < math.inf:
            raise ConditionError(f"weights: got a sum of {total}, must be finite and more than 0")
        divisor = 1.0 if abs(total - 1) <= 1e-9 else total
        self._probabilities = {
            condition: probability
            for condition, weight in parsed.items()
            if (probability := weight / divisor) > 0
        }
        self._conditions = tuple(self._probabilities)
        # as numpy's Generator.choice has it, so that it would draw the same
        cumulative = np.cumsum(self.probabilities)
        self._cumulative: NDArray[np.float64] = cumulative / cumulative[-1]

    @classmethod
    def uniform(cls, conditions: Iterable[Condition | str]) -> "Mixture":
        """The mixture in which all `conditions` occur equally often.

        Raises:
            ConditionError: There is none, one comes twice, or a text is no condition.
        """
        parsed = [Condition.parse(condition) for condition in conditions]
        repeated = {str(condition) for condition in parsed if parsed.count(condition) > 1}
        if repeated:
            raise ConditionError(f"conditions: got {', '.join(sorted(repeated))} more than once")
        return cls(dict.fromkeys(parsed, 1.0))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions that can occur, in the order in which they were given."""
        return self._conditions

    @property
    def probabilities(self) -> tuple[float, ...]:
        """The probability of each of `conditions`; all positive, their sum is 1."""
        return tuple(self._probabilities.values())

    def sample(self, n: int, rng: np.random.Generator) -> list[Condition]:
        """Draw `n` conditions independently.

        Args:
            n: 0 or more.
            rng: Source of the random numbers.
        """
        return [self._conditions[place] for place in self.places(rng.random(n))]

    def place(self, number: float) -> int:
        """The place in `conditions` of the one that a number from [0, 1) stands for."""
        return int(self._cumulative.searchsorted(number, "right"))

    def places(self, numbers: NDArray[np.float64]) -> NDArray[np.int64]:
        """The same for many numbers."""
        return self._cumulative.searchsorted(numbers, "right")

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold: the schema version, and the probability of each condition."""
        return {
            "schema_version": SCHEMA_VERSION,
            "weights": {str(condition): p for condition, p in self._probabilities.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Mixture":
        """The mixture whose `to_dict` gave `data`.

        Raises:
            ConditionError: `data` is of another form or schema version, or its weights are wrong.
        """
        version, weights = data.get("schema_version"), data.get("weights")
        if version != SCHEMA_VERSION or not isinstance(weights, Mapping):
            raise ConditionError(
                f"mixture: got schema version {version!r}, must be {SCHEMA_VERSION} with weights"
            )
        for text, weight in weights.items():
            if not isinstance(weight, int | float):
                raise ConditionError(f"weights: got {weight!r} for {text}, must be a number")
        return cls(weights)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mixture):
            return NotImplemented
        return list(self._probabilities.items()) == list(other._probabilities.items())

    def __hash__(self) -> int:
        return hash(tuple(self._probabilities.items()))

    def __repr__(self) -> str:
        weights = {str(condition): round(p, 6) for condition, p in self._probabilities.items()}
        return f"Mixture({weights})"


def _sum(weights: Iterable[float]) -> float:
    """Their exact sum, rounded once, on every version of Python; infinity beyond all floats."""
    try:
        return math.fsum(weights)
    except OverflowError:
        return math.inf


def _default_weights() -> dict[Condition, float]:
    corruptions = {
        Condition(name, severity): 1 / len(SEVERITIES)
        for name in DEFAULT_CORRUPTIONS
        for severity in SEVERITIES
    }
    return {CLEAN: 1.0, **corruptions}


# Clean and each of the eight corruptions 1/9, a corruption's evenly over its five severities.
DEFAULT_MIXTURE: Final = Mixture(_default_weights())


Conditions = Mixture | Mapping[str, float] | Mapping[Condition, float] | Iterable[Condition | str]
"""What people give for a mixture; see :func:`as_mixture`."""


def as_mixture(conditions: Conditions) -> Mixture:
    """A mixture from one, from a mapping of conditions to weights, or from equally likely ones.

    Raises:
        ConditionError: A text is no condition, a weight is not allowed, or nothing is given.
    """
    if isinstance(conditions, Mixture):
        return conditions
    if isinstance(conditions, Mapping):
        return Mixture({str(condition): weight for condition, weight in conditions.items()})
    if isinstance(conditions, str):
        return Mixture.uniform([conditions])
    return Mixture.uniform(conditions)
