"""What it is worth to see the single image: a rule from its features to an assignment; no torch.

A rule is found on ``search`` alone. A ridge regression predicts how an image would do at each
assignment, and the image gets the assignment with the least predicted harm + price * cost, at the
price that makes the average cost over the mixture of conditions keep to a budget. The condition is
not shown to it: what it knows of the condition, it knows from the image.

Costs are known without labels, so that the price can be that of the predictor which is used: where
features say little, the predictors of the folds differ from it by enough to turn everyone's choice.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dqmq_env.benchmark.predictor import FEATURES, Array, Design, as_rows, cross_fit, folds_of
from dqmq_env.errors import BudgetError, SettingError
from dqmq_env.task.budget import ROUNDING

if TYPE_CHECKING:
    from dqmq_env.benchmark.image_answers import ImageAnswers, SplitAnswers

_HALVINGS = 100


@dataclass(frozen=True, eq=False)
class ImageChoice:
    """A rule that gives each image an assignment, and how good it is on average over the mixture.

    Attributes:
        features: what it looks at, one of :data:`FEATURES`, or ``oracle``.
        target: what it predicts of each assignment: ``loss``, or ``correct``.
        cost: realised mean cost on ``test``, as a fraction of that at 8 bits.
        accuracy: on ``test``.
        search_cost: the same on ``search``, by predictions for images that were not fitted to.
        search_accuracy: the same on ``search``, by such predictions.
        correct: probability that each ``test`` image is classified correctly, over the mixture,
            shape (n,).
        used: how often each assignment is given on ``test``, shape (A,); the sum is 1.
    """

    features: str
    target: str
    cost: float
    accuracy: float
    search_cost: float
    search_accuracy: float
    correct: Array
    used: Array


def choose_by_image(
    answers: "ImageAnswers", features: str, budget: float, seed: int = 0
) -> ImageChoice:
    """The rule that looks at features of a single image, under a budget on the average cost.

    Predictors of the loss and of correctness are fitted; the one kept is that of better accuracy on
    ``search``, each image being given its assignment by a predictor that was not fitted to it.

    Args:
        answers: of all assignments that may be given.
        features: one of :data:`FEATURES`.
        budget: on the average cost, as a fraction of that at 8 bits.
        seed: names the draw of the folds of ``search`` images.

    Raises:
        SettingError: there are no such features.
        BudgetError: not even the cheapest assignment keeps to the budget.
        DataError: ``search`` has fewer images than there are folds.
    """
    if features not in FEATURES:
        raise SettingError(f"features: got {features!r}, allowed are {list(FEATURES)}")
    _check_budget(answers, budget)
    search, test = _Case.of(answers, answers.search), _Case.of(answers, answers.test)
    folds = folds_of(search.images, len(search.shares), seed)
    design = Design(answers.search, features, search.weights)
    x = design(answers.search)
    rules = {}
    for target, harms in search.harms.items():
        fit = cross_fit(x, harms, search.weights, folds)
        prices = _prices(fit.held_out, search, budget)
        rules[target] = fit, search.judged(prices.given(fit.held_out, search.costs))
    target = max(rules, key=lambda name: rules[name][1].accuracy)
    fit, found = rules[target]
    prices = _prices(x @ fit.coefficients, search, budget)
    given = prices.given(design(answers.test) @ fit.coefficients, test.costs)
    return _choice(features, target, found, test.judged(given))


def oracle_by_image(answers: "ImageAnswers", budget: float) -> ImageChoice:
    """An upper bound that no rule reaches: each image's true correctness is known beforehand.

    The answers of ``test`` images themselves decide what these get, and those of ``search`` images
    likewise; the budget is kept on each split.

    Args:
        answers: of all assignments that may be given.
        budget: on the average cost, as a fraction of that at 8 bits.

    Raises:
        BudgetError: not even the cheapest assignment keeps to the budget.
    """
    _check_budget(answers, budget)
    found = []
    for split in (answers.search, answers.test):
        case = _Case.of(answers, split)
        harms = case.harms["correct"]
        found.append(case.judged(_prices(harms, case, budget).given(harms, case.costs)))
    return _choice("oracle", "correct", *found)


@dataclass(frozen=True, eq=False)
class _Judged:
    """How a way to give assignments does on a split; see :class:`ImageChoice`."""

    cost: float
    accuracy: float
    correct: Array
    used: Array


@dataclass(frozen=True, eq=False)
class _Case:
    """A split as rows, one for each image under each condition, conditions first.

    Attributes:
        shares: of the conditions, shape (C,).
        images: number of images, n.
        order: places of the assignments by ascending cost, shape (A,); columns are in this order,
            so that the cheaper one is taken where two are equal.
        costs: in this order, shape (A,).
        harms: what is to be kept small: ``loss``, and for ``correct`` whether the image is
            classified wrongly; shape (C * n, A) each.
    """

    shares: Array
    images: int
    order: NDArray[np.int64]
    costs: Array
    harms: dict[str, Array]

    @classmethod
    def of(cls, answers: "ImageAnswers", split: "SplitAnswers") -> "_Case":
        order = np.argsort(answers.costs, kind="stable")
        harms = {
            name: as_rows(np.moveaxis(values, 1, 2))[:, order]
            for name, values in (("loss", split.loss), ("correct", ~split.correct))
        }
        images = split.loss.shape[2]
        return cls(answers.shares, images, order, answers.costs[order], harms)

    @property
    def weights(self) -> Array:
        """Of the rows, shape (C * n,); the sum is 1."""
        return np.repeat(self.shares / self.images, self.images)

    def judged(self, given: Array) -> _Judged:
        """How it does to give assignments with some probabilities, shape (C * n, A)."""
        right = np.einsum("ra,ra->r", given, 1 - self.harms["correct"])
        correct = self.shares @ right.reshape(-1, self.images)
        sorted_used = self.weights @ given
        used = np.empty_like(sorted_used)
        used[self.order] = sorted_used
        cost, accuracy = float(sorted_used @ self.costs), float(correct.mean())
        return _Judged(cost, accuracy, correct, used)


@dataclass(frozen=True)
class _Prices:
    """Two prices of the cost, next to each other, and the share of images that meet the lower."""

    low: float
    high: float
    share: float

    def given(self, harms: Array, costs: Array) -> Array:
        """The probability that each row gets each assignment, shape (rows, A)."""
        given = np.zeros(harms.shape)
        rows = np.arange(len(harms))
        given[rows, _best(harms, costs, self.high)] += 1 - self.share
        given[rows, _best(harms, costs, self.low)] += self.share
        return given


def _prices(harms: Array, case: _Case, budget: float) -> _Prices:
    """The prices at which the rows of a split cost just what the budget allows.

    Args:
        harms: predicted, shape (rows, A).
        case: gives costs and weights.
        budget: not below the cheapest cost.
    """
    costs, weights = case.costs, case.weights
    limit = max(budget, float(costs[0])) + ROUNDING

    def spent(price: float) -> float:
        return float(weights @ costs[_best(harms, costs, price)])

    if spent(0.0) <= limit:
        return _Prices(0.0, 0.0, 1.0)
    dearer = costs[costs > costs[0]] - costs[0]
    low, high = 0.0, 2 * float(np.ptp(harms, axis=1).max() / dearer.min())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (low, middle) if spent(middle) <= limit else (middle, high)
    most, least = spent(low), spent(high)
    return _Prices(low, high, float(np.clip((budget - least) / (most - least), 0, 1)))


def _best(harms: Array, costs: Array, price: float) -> NDArray[np.int64]:
    return np.asarray(np.argmin(harms + price * costs, axis=1))


def _check_budget(answers: "ImageAnswers", budget: float) -> None:
    cheapest = float(answers.costs.min())
    if not cheapest <= budget + ROUNDING:
        raise BudgetError(f"budget: got {budget}, the cheapest assignment costs {cheapest:.6f}")


def _choice(features: str, target: str, search: _Judged, test: _Judged) -> ImageChoice:
    return ImageChoice(
        features,
        target,
        test.cost,
        test.accuracy,
        search.cost,
        search.accuracy,
        test.correct,
        test.used,
    )
