"""What following the quality of the input is worth: by its condition, and by the single image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dqmq_env.benchmark.curves import Curve, Gain
from dqmq_env.benchmark.image_answers import ImageAnswers
from dqmq_env.benchmark.image_value import ImageChoice, choose_by_image
from dqmq_env.benchmark.predictor import FEATURES
from dqmq_env.problem.estimates import Estimate, estimate, resampled_means
from dqmq_env.problem.quality_value import Answers, QualityValue, value_of_quality

SINGLE, BLIND, RULE = "best single assignment", "best blind mixture", "best rule by condition"
BY_IMAGE: Mapping[str, str] = {
    "descriptor": "by image, from its descriptor",
    "first": "by image, from the first layer",
}


@dataclass(frozen=True, eq=False)
class ByImage:
    """A rule that looks at single images.

    Attributes:
        choice: the rule, and what it costs and gives on ``test``.
        gain: accuracy on ``test`` above that of the best blind mixture of the same cost there.
    """

    choice: ImageChoice
    gain: Estimate


@dataclass(frozen=True, eq=False)
class Study:
    """The ways to give assignments, each under several budgets.

    Attributes:
        values: of knowing the condition, a row for each budget.
        by_image: features to rules that look at single images, one for each budget.
    """

    values: tuple[QualityValue, ...]
    by_image: Mapping[str, tuple[ByImage, ...]]

    def curves(self) -> dict[str, Curve]:
        """Accuracy on ``test`` of each way against what it costs."""
        found = {
            SINGLE: Curve(*_columns([(v.budget, v.single.test) for v in self.values])),
            BLIND: Curve(*_columns([(v.budget, v.blind.test) for v in self.values])),
            RULE: Curve(*_columns([(v.budget, v.rule.test) for v in self.values])),
        }
        for name, rules in self.by_image.items():
            pairs = sorted((rule.choice.cost, rule.choice.accuracy) for rule in rules)
            found[BY_IMAGE[name]] = Curve(*_columns(pairs))
        return found

    def gains(self) -> dict[str, Gain]:
        """Points of accuracy on ``test`` over the blind mixture of equal cost."""
        found = {RULE: _gain([(v.budget, v.gain) for v in self.values])}
        for name, rules in self.by_image.items():
            found[BY_IMAGE[name]] = _gain([(rule.choice.cost, rule.gain) for rule in rules])
        return found


def study(answers: Answers, budgets: Sequence[float], images: ImageAnswers | None = None) -> Study:
    """Work out what there is to gain.

    Args:
        answers: of all assignments that may be given by the condition; they must know single
            ``test`` images.
        budgets: on the average cost, as fractions of that at 8 bits, ascending.
        images: answers of those that may be given by the single image, about the same ``test``
            images; rules that look at them are left out without it.

    Raises:
        BudgetError: no assignment keeps to a budget.
    """
    values = tuple(value_of_quality(answers, budget) for budget in budgets)
    if images is None:
        return Study(values, {})
    rules = {
        name: tuple(_by_image(answers, images, name, budget) for budget in budgets)
        for name in FEATURES
    }
    return Study(values, rules)


def answers_by_image(images: ImageAnswers, criterion: str = "accuracy") -> Answers:
    """What is known of single images, as what is known of assignments.

    Args:
        images: answers of single images.
        criterion: ``accuracy`` or ``loss``, what is decided by on ``search``.
    """
    accuracy = images.search.correct.mean(2)
    return Answers(
        images.conditions,
        images.shares,
        images.costs,
        accuracy if criterion == "accuracy" else -images.search.loss.mean(2, dtype=np.float64),
        accuracy,
        images.test.correct.mean(2),
        lambda place: images.assignments[place],
        lambda places: images.test.correct[:, places],
    )


def table_of(study: Study) -> list[str]:
    """The study as lines of a Markdown table, in percent and points on ``test``."""
    heads = ["budget", "single", "blind", "by condition", "gain", "BOPs saved"]
    heads += [f"{name.split(', ')[1]}: BOPs, accuracy, gain" for name in _named(study)]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for number, value in enumerate(study.values):
        cells = [f"{100 * value.budget:.1f}%"]
        cells += [f"{100 * own.test:.2f}" for own in (value.single, value.blind, value.rule)]
        cells += [_points(value.gain), _points(value.saved, digits=0)]
        for rules in study.by_image.values():
            rule = rules[number]
            cells.append(
                f"{100 * rule.choice.cost:.1f}%, {100 * rule.choice.accuracy:.2f}, "
                f"{_points(rule.gain)}"
            )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _named(study: Study) -> list[str]:
    return [BY_IMAGE[name] for name in study.by_image]


def _by_image(answers: Answers, images: ImageAnswers, features: str, budget: float) -> ByImage:
    choice = choose_by_image(images, features, budget)
    blind = value_of_quality(answers, max(choice.cost, float(answers.costs.min()))).blind
    gain = np.array([choice.accuracy - blind.test])
    if blind.images is not None:
        differences = (choice.correct - blind.images)[None]
        gain = np.append(gain, resampled_means(differences)[:, 0])
    return ByImage(choice, estimate(gain))


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _gain(rows: Sequence[tuple[float, Estimate]]) -> Gain:
    ordered = sorted(rows, key=lambda row: row[0])
    points = [
        [100 * float(end) for end in (own.value, own.low, own.high) if end is not None]
        for _, own in ordered
    ]
    values, low, high = zip(*points, strict=True)
    return Gain([place for place, _ in ordered], values, low, high)


def _points(own: Estimate | None, digits: int = 2) -> str:
    """In percent, with the interval."""
    if own is None:
        return "not reached"
    text = f"{100 * own.value:+.{digits}f}"
    if own.low is None and own.high is None:
        return text
    ends = ["?" if end is None else f"{100 * end:+.{digits}f}" for end in (own.low, own.high)]
    return f"{text} ({' to '.join(ends)})"
