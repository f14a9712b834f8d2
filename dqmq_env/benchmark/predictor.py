"""A small predictor of how an image does at each assignment, from what it looks like; no torch.

A ridge regression for all assignments at once, its strength and its predictions cross-fitted.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dqmq_env.errors import DataError
from dqmq_env.randomness import numpy_generator

if TYPE_CHECKING:
    from dqmq_env.benchmark.image_answers import SplitAnswers

FEATURES = ("descriptor", "first")
"""What a rule can look at: the quality descriptor, or that and the first layer's output."""

_FOLDS = 5
_STRENGTHS = tuple(10.0**power for power in range(4, -7, -1))
_REACH = 5.0

Array = NDArray[np.float64]


class Design:
    """Makes the columns of the regression, on scales that ``search`` sets.

    They are the six numbers of the descriptor, their squares and products of two, and the numbers
    of the first layer's output if these are looked at; then a column of ones. No column reaches
    beyond 5 standard deviations: an image unlike all others must not decide by extrapolation.

    Args:
        search: sets the scales.
        features: one of :data:`FEATURES`.
        weights: of the rows.
    """

    def __init__(self, search: "SplitAnswers", features: str, weights: Array) -> None:
        self._features = features
        self._inner = _Scale.of(as_rows(search.descriptor), weights)
        self._outer = _Scale.of(self._terms(search), weights)

    def __call__(self, split: "SplitAnswers") -> Array:
        """The columns for each row, shape (rows, P)."""
        columns = self._outer(self._terms(split))
        return np.column_stack([columns, np.ones(len(columns))])

    def _terms(self, split: "SplitAnswers") -> Array:
        numbers = self._inner(as_rows(split.descriptor))
        one, other = np.triu_indices(numbers.shape[1])
        terms = [numbers, numbers[:, one] * numbers[:, other]]
        if self._features == "first":
            terms.append(as_rows(split.first))
        return np.hstack(terms)


@dataclass(frozen=True, eq=False)
class _Scale:
    """Brings columns to mean 0 and standard deviation 1, those that vary at all."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, values: Array, weights: Array) -> "_Scale":
        mean = weights @ values
        deviation = np.sqrt(weights @ (values - mean) ** 2)
        varies = deviation > 1e-9 * np.maximum(np.abs(mean), 1)
        return cls(mean, np.where(varies, deviation, np.inf))

    def __call__(self, values: Array) -> Array:
        return np.clip((values - self.mean) / self.deviation, -_REACH, _REACH)


@dataclass(frozen=True, eq=False)
class Fit:
    """A ridge regression, shape (P, A), and predictions for rows by fits without them."""

    coefficients: Array
    held_out: Array


def cross_fit(x: Array, harms: Array, weights: Array, folds: NDArray[np.int64]) -> Fit:
    """Fit all assignments at once, at the strength that predicts held-out folds best.

    What assignments have in common of an image's harm is no matter to a choice between them, and
    left out.

    Args:
        x: columns, the last one being ones, shape (rows, P).
        harms: shape (rows, A).
        weights: of the rows.
        folds: which fold each row is in.
    """
    y = harms - harms.mean(1, keepdims=True)
    grams, moments = [], []
    for fold in range(_FOLDS):
        rows = folds == fold
        weighted = x[rows].T * weights[rows]
        grams.append(weighted @ x[rows])
        moments.append(weighted @ y[rows])
    gram, moment = np.sum(grams, 0), np.sum(moments, 0)
    least, strength, parts = np.inf, _STRENGTHS[0], [np.zeros_like(moment)] * _FOLDS
    for tried in _STRENGTHS:
        fits, error = [], 0.0
        for own_gram, own_moment in zip(grams, moments, strict=True):
            fit = _solve(gram - own_gram, moment - own_moment, tried)
            # the squared error on the fold, less what does not depend on the fit
            error += float(np.sum(fit * (own_gram @ fit - 2 * own_moment)))
            fits.append(fit)
        if error < least:
            least, strength, parts = error, tried, fits
    held_out = np.empty_like(y)
    for fold, part in enumerate(parts):
        held_out[folds == fold] = x[folds == fold] @ part
    return Fit(_solve(gram, moment, strength), held_out)


def _solve(gram: Array, moment: Array, strength: float) -> Array:
    """Coefficients of a ridge regression that does not shrink the last, the intercept."""
    penalty = np.full(len(gram), strength * gram[-1, -1])
    penalty[-1] = 0
    return np.asarray(np.linalg.solve(gram + np.diag(penalty), moment), np.float64)


def folds_of(images: int, conditions: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row; an image is in the same one under all conditions."""
    if images < _FOLDS:
        raise DataError(f"answers: got {images} search images, allowed are {_FOLDS} and more")
    of_images = numpy_generator(seed, "folds").permutation(np.arange(images) % _FOLDS)
    return np.tile(of_images, conditions)


def as_rows(values: NDArray[Any]) -> Array:
    """Of shape (C, n, F) as (C * n, F)."""
    return values.reshape(-1, values.shape[-1]).astype(np.float64)
