"""How far a number may be off because other images could have been drawn; free of torch."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 2_000


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval over the choice of ``test`` images.

    Ends are ``None`` where they are not known or not finite.
    """

    value: float
    low: float | None
    high: float | None


def half_width(accuracy: float, images: int) -> float:
    """Half the 95% interval of an accuracy in [0, 1] on independent images, by the normal law."""
    return NormalDist().inv_cdf(0.975) * math.sqrt(accuracy * (1 - accuracy) / images)


def resampled_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of values over images that are drawn again with replacement, always the same draws.

    Args:
        values: shape (rows, images).

    Returns:
        Shape (resamples, rows).
    """
    count = values.shape[1]
    generator = np.random.default_rng(0)
    draws = generator.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    return np.asarray(draws @ values.T / count)


def estimate(values: NDArray[np.float64]) -> Estimate:
    """From the value itself followed by those of R resamples, or none; shape (1 + R,)."""
    if len(values) == 1:
        return Estimate(float(values[0]), None, None)
    ordered = np.sort(values[1:])
    low, high = (float(ordered[round(q * (len(ordered) - 1))]) for q in (0.025, 0.975))
    return Estimate(float(values[0]), *(end if math.isfinite(end) else None for end in (low, high)))
