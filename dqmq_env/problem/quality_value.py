"""What it is worth to know the quality of the input; free of torch.

Under a budget that holds on average over a mixture of conditions, assignments can be given

* all alike: the best single assignment;
* at random, without a look at the input: the best blind mixture. An average budget allows that, so
  that this is what a rule which looks at the input has to beat;
* by the condition of the input, at random within a condition: the best rule.

What is best is decided on ``search``, exactly: the second and the third are linear programmes,
which fill the budget along the steepest edges of concave hulls. How good it is is measured on
``test``. The best of many thousands by accuracy owes part of it to the images at hand, more so by
condition than over all of them; the loss is less noisy to decide by.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dqmq_env.errors import BudgetError
from dqmq_env.problem.estimates import Estimate, estimate, resampled_means
from dqmq_env.problem.fronts import concave_hull
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.task.budget import ROUNDING

CRITERIA = ("accuracy", "loss")
"""What may be decided by on ``search``."""

Shares = Sequence[tuple[BitAssignment, float]]
"""Assignments, and which share of the images gets each."""


@dataclass(frozen=True, eq=False)
class Answers:
    """How A assignments do under C conditions.

    Attributes:
        conditions: their names.
        probabilities: how often each condition occurs, shape (C,).
        costs: of the assignments, as fractions of that at 8 bits, shape (A,).
        score: what is decided by: the greater on ``search``, the better, shape (C, A).
        search: accuracies, shape (C, A).
        test: accuracies, shape (C, A).
        assignment: the assignment at a place.
        correct: which ``test`` images the assignments at some places (P,) classify correctly, shape
            (C, P, images); ``None`` where that is not known.
    """

    conditions: Sequence[str]
    probabilities: NDArray[np.float64]
    costs: NDArray[np.float64]
    score: NDArray[np.float64]
    search: NDArray[np.float64]
    test: NDArray[np.float64]
    assignment: Callable[[int], BitAssignment]
    correct: Callable[[NDArray[np.int64]], NDArray[np.bool_] | None]


@dataclass(frozen=True, eq=False)
class Chosen:
    """A way to give assignments, and how good it is on average over the mixture.

    Attributes:
        assignments: condition to what its images get.
        cost: as a fraction of that at 8 bits.
        search: accuracy on the images that it was chosen on.
        test: accuracy on images held out.
        images: probability that it classifies each of these correctly, averaged over the mixture,
            shape (images,); ``None`` where that is not known.
    """

    assignments: Mapping[str, Shares]
    cost: float
    search: float
    test: float
    images: NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class QualityValue:
    """What it is worth to know the condition of the input.

    Attributes:
        budget: on the average cost, as a fraction of that at 8 bits.
        single: the best single assignment.
        blind: the best blind mixture.
        rule: the best rule from condition to assignments.
        gain: accuracy on ``test`` of the rule above the blind mixture.
        saved: the share of the blind mixture's cost that the best rule of equal accuracy on
            ``test`` does without; ``None`` where no rule reaches that accuracy, its ``low`` as well
            where one in forty resamples has none.
    """

    budget: float
    single: Chosen
    blind: Chosen
    rule: Chosen
    gain: Estimate
    saved: Estimate | None


def value_of_quality(answers: Answers, budget: float) -> QualityValue:
    """Compare the three under one budget.

    Args:
        answers: of all assignments that may be given.
        budget: on the average cost, as a fraction of that at 8 bits.

    Raises:
        BudgetError: not even the cheapest assignment keeps to the budget.
    """
    cheapest = float(answers.costs.min())
    if not cheapest <= budget + ROUNDING:
        raise BudgetError(f"budget: got {budget}, the cheapest assignment costs {cheapest:.6f}")
    mean = answers.probabilities @ answers.score
    everywhere = range(len(answers.conditions))
    kept = np.where(answers.costs <= budget + ROUNDING, mean, -np.inf)
    single = [(row, int(kept.argmax()), 1.0) for row in everywhere]
    hull = concave_hull(answers.costs, mean)
    blind = [
        (row, place, weight)
        for _, place, weight in _fill([hull], mean[None], np.ones(1), answers.costs, budget)[-1]
        for row in everywhere
    ]
    hulls = [concave_hull(answers.costs, own) for own in answers.score]
    path = _fill(hulls, answers.score, answers.probabilities, answers.costs, budget)
    rule = path[-1]
    dearer = _fill(hulls, answers.score, answers.probabilities, answers.costs, np.inf)
    gain, saved = _estimates(answers, blind, rule, dearer)
    return QualityValue(
        budget,
        _chosen(answers, single),
        _chosen(answers, blind),
        _chosen(answers, rule),
        gain,
        saved,
    )


Plan = list[tuple[int, int, float]]
"""Rows of conditions, places of assignments, and which share of the row's images gets them."""


def _fill(
    hulls: Sequence[NDArray[np.int64]],
    values: NDArray[np.float64],
    probabilities: NDArray[np.float64],
    costs: NDArray[np.float64],
    budget: float,
) -> list[Plan]:
    """The best plans of ascending average cost, up to the one that the budget allows.

    Between two that follow one another, what is best is to mix them.

    Args:
        hulls: corners of each row, see :func:`~dqmq_env.problem.fronts.concave_hull`.
        values: shape (rows, A).
        probabilities: shape (rows,).
        costs: shape (A,).
        budget: on the average cost.
    """
    edges = sorted(
        (
            -(values[row, after] - values[row, before]) / (costs[after] - costs[before]),
            row,
            int(before),
            int(after),
        )
        for row, hull in enumerate(hulls)
        for before, after in pairwise(hull)
    )
    at = [int(hull[0]) for hull in hulls]
    plans = [[(row, place, 1.0) for row, place in enumerate(at)]]
    left = budget - float(probabilities @ costs[at])
    for _, row, before, after in edges:
        price = float(probabilities[row] * (costs[after] - costs[before]))
        if price > left + ROUNDING:
            share = max(left / price, 0.0)
            others = [(other, place, 1.0) for other, place in enumerate(at) if other != row]
            plans.append([*others, (row, before, 1 - share), (row, after, share)])
            break
        left -= price
        at[row] = after
        plans.append([(own, place, 1.0) for own, place in enumerate(at)])
    return plans


def _average(answers: Answers, plan: Plan, values: NDArray[np.float64]) -> float:
    """Of values of shape (C, A) over the mixture."""
    return float(sum(answers.probabilities[row] * share * values[row, p] for row, p, share in plan))


def _chosen(answers: Answers, plan: Plan) -> Chosen:
    assignments: dict[str, list[tuple[BitAssignment, float]]] = {}
    for row, place, share in plan:
        if share > 0:
            given = assignments.setdefault(answers.conditions[row], [])
            given.append((answers.assignment(place), share))
    costs = np.broadcast_to(answers.costs, answers.search.shape)
    images = _by_image(answers, [plan])
    return Chosen(
        assignments,
        _average(answers, plan, costs),
        _average(answers, plan, answers.search),
        _average(answers, plan, answers.test),
        None if images is None else images[0],
    )


def _estimates(
    answers: Answers, blind: Plan, rule: Plan, path: Sequence[Plan]
) -> tuple[Estimate, Estimate | None]:
    """Of the gain at equal cost and of the cost saved at equal accuracy."""
    plans = [blind, rule, *path]
    costs = np.broadcast_to(answers.costs, answers.search.shape)
    spent = np.array([_average(answers, plan, costs) for plan in plans])
    means = np.array([[_average(answers, plan, answers.test) for plan in plans]])
    images = _by_image(answers, plans)
    if images is not None:
        means = np.concatenate([means, resampled_means(images)])
    saved = _saved(means, spent)
    reached = np.isfinite(saved[0])
    return estimate(means[:, 1] - means[:, 0]), estimate(saved) if reached else None


def _saved(means: NDArray[np.float64], spent: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the first plan's cost that the plans from the third on do without.

    Minus infinity where none of them is as accurate.

    Args:
        means: accuracy of each plan in each resample, shape (R, plans).
        spent: cost of each plan, shape (plans,).
    """
    saved = np.empty(len(means))
    path_costs = spent[2:]
    for number, (goal, _, *path) in enumerate(means):
        reached = np.flatnonzero(np.array(path) >= goal)
        if not len(reached):
            cost = np.inf
        elif reached[0] == 0:
            cost = path_costs[0]
        else:
            at = reached[0]
            share = (goal - path[at - 1]) / (path[at] - path[at - 1])
            cost = path_costs[at - 1] + share * (path_costs[at] - path_costs[at - 1])
        saved[number] = 1 - cost / spent[0]
    return saved


def _by_image(answers: Answers, plans: Sequence[Plan]) -> NDArray[np.float64] | None:
    """Probability that each plan classifies each image correctly, shape (plans, images)."""
    places = np.unique([place for plan in plans for _, place, _ in plan])
    correct = answers.correct(places)
    if correct is None:
        return None
    images = np.zeros((len(plans), correct.shape[2]))
    for number, plan in enumerate(plans):
        for row, place, share in plan:
            at = int(np.searchsorted(places, place))
            images[number] += answers.probabilities[row] * share * correct[row, at]
    return images
