import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

import dqmq_env
from dqmq_env.benchmark.image_answers import ImageAnswers, SplitAnswers
from dqmq_env.benchmark.image_value import (
    FEATURES,
    ImageChoice,
    choose_by_image,
    oracle_by_image,
)
from dqmq_env.errors import BudgetError, DataError, SettingError
from dqmq_env.problem.fronts import concave_hull
from dqmq_env.quantization.assignment import BitAssignment

Array = NDArray[np.float64]
Hard = Callable[[SplitAnswers], NDArray[np.bool_]]
COSTS = np.array([0.2, 0.6, 1.0])


def blank(rng: np.random.Generator, shape: tuple[int, int, int], first: int) -> SplitAnswers:
    """Features at random, answers of no meaning; ``shape`` is (C, A, n)."""
    conditions, _, images = shape
    return SplitAnswers(
        np.zeros(shape, np.float32),
        np.zeros(shape, np.bool_),
        rng.uniform(0, 1, (conditions, images, 6)).astype(np.float32),
        rng.normal(size=(conditions, images, first)).astype(np.float32),
    )


def answered(split: SplitAnswers, chance: Array, rng: np.random.Generator) -> SplitAnswers:
    """The split with answers drawn from the chance of being correct, shape (C, A, n)."""
    conditions, _, images = chance.shape
    correct = rng.uniform(size=(conditions, 1, images)) < chance
    sure = np.clip(chance, 0.02, 0.98)
    loss = -np.log(np.where(correct, sure, 1 - sure)).astype(np.float32)
    return dataclasses.replace(split, loss=loss, correct=correct)


def make_answers(splits: list[SplitAnswers], costs: Array = COSTS) -> ImageAnswers:
    search, test = splits
    conditions = len(search.loss)
    shares = np.arange(1, conditions + 1) / np.arange(1, conditions + 1).sum()
    names = tuple(f"jpeg/{1 + row}" for row in range(conditions))
    assignments = tuple(BitAssignment({"a": (2, 2), f"b{p}": (2, 2)}) for p in range(len(costs)))
    return ImageAnswers(names, shares, assignments, costs, search, test)


def decided_by(hard: Hard, seed: int = 0) -> ImageAnswers:
    """Hard images need the dearest assignment; the middle one is as bad as the cheapest."""
    rng = np.random.default_rng(seed)
    splits = []
    for images in (400, 300):
        split = blank(rng, (3, 3, images), 4)
        chance = np.ones((3, 3, images))
        chance[:, :2] = ~hard(split)[:, None]
        splits.append(answered(split, chance, rng))
    return make_answers(splits)


def uninformed(seed: int) -> ImageAnswers:
    """Accuracy rises with cost, whatever the features."""
    rng = np.random.default_rng(seed)
    costs = np.array([0.1, 0.3, 0.5, 0.7, 1.0])
    splits = []
    for images in (400, 300):
        ease = rng.normal(size=(3, 1, images))
        chance = 1 / (1 + np.exp(-(4 * costs**0.5 - 2)[None, :, None] - ease))
        splits.append(answered(blank(rng, (3, 5, images), 4), chance, rng))
    return make_answers(splits, costs)


def mean_accuracy(answers: ImageAnswers, split: SplitAnswers) -> Array:
    return np.asarray(answers.shares @ split.correct.mean(2))


def blind(answers: ImageAnswers, cost: float) -> float:
    """Test accuracy of the mixture that is best on search among those which look at nothing."""
    hull = concave_hull(answers.costs, mean_accuracy(answers, answers.search))
    return float(np.interp(cost, answers.costs[hull], mean_accuracy(answers, answers.test)[hull]))


def by_one_number(split: SplitAnswers) -> NDArray[np.bool_]:
    return split.descriptor[..., 2] > 0.5


def by_two_numbers(split: SplitAnswers) -> NDArray[np.bool_]:
    return (split.descriptor[..., 0] - 0.5) * (split.descriptor[..., 4] - 0.5) > 0


def by_first_layer(split: SplitAnswers) -> NDArray[np.bool_]:
    return split.first[..., 1] > 0


@pytest.mark.parametrize(
    ("features", "hard"),
    [
        ("descriptor", by_one_number),
        ("descriptor", by_two_numbers),
        ("first", by_two_numbers),
        ("first", by_first_layer),
    ],
)
def test_finds_nearly_all_there_is(features: str, hard: Hard) -> None:
    answers = decided_by(hard)
    found = choose_by_image(answers, features, 0.6)
    assert found.cost == pytest.approx(0.6, abs=0.03)
    assert blind(answers, found.cost) < 0.8
    assert found.accuracy > 0.94
    assert found.search_accuracy > 0.94
    assert found.used[1] < 0.05
    assert found.accuracy <= oracle_by_image(answers, found.cost).accuracy


def test_looks_at_nothing_else_than_its_features() -> None:
    answers = decided_by(by_first_layer)
    found = choose_by_image(answers, "descriptor", 0.6)
    assert found.accuracy < blind(answers, found.cost) + 0.03


def test_noise_is_worth_nothing() -> None:
    """On average over many draws; budgets are kept all the same."""
    gains = []
    for seed in range(25):
        answers = uninformed(seed)
        found = choose_by_image(answers, FEATURES[seed % 2], 0.4, seed)
        assert found.cost == pytest.approx(0.4, abs=0.05)
        gains.append(found.accuracy - blind(answers, found.cost))
    error = np.std(gains, ddof=1) / np.sqrt(len(gains))
    assert -0.01 < np.mean(gains) < 3 * error
    assert error < 0.003


def test_an_image_does_not_tell_of_itself_under_another_condition() -> None:
    """Each image is recognisable, and equally hard everywhere: known images would be solved."""
    rng = np.random.default_rng(0)
    splits = []
    for _ in range(2):
        split = blank(rng, (5, 2, 80), 1)
        split = dataclasses.replace(
            split,
            descriptor=np.full_like(split.descriptor, 0.5),
            first=np.tile(np.eye(80, dtype=np.float32), (5, 1, 1)),
        )
        chance = np.ones((5, 2, 80))
        chance[:, 0] = rng.permutation(80) < 40
        splits.append(answered(split, chance, rng))
    answers = make_answers(splits, np.array([0.0, 1.0]))
    assert choose_by_image(answers, "first", 0.5).search_accuracy < 0.8
    assert oracle_by_image(answers, 0.5).accuracy == 1


@pytest.mark.parametrize("features", FEATURES)
def test_test_answers_change_no_choice(features: str) -> None:
    answers = decided_by(by_one_number)
    rng = np.random.default_rng(1)
    order = rng.permutation(answers.test.correct.shape[2])
    shuffled = dataclasses.replace(
        answers.test,
        correct=answers.test.correct[:, ::-1, order],
        loss=np.full_like(answers.test.loss, np.nan),
    )
    found = choose_by_image(answers, features, 0.5)
    again = choose_by_image(dataclasses.replace(answers, test=shuffled), features, 0.5)
    assert found.accuracy != again.accuracy
    for name in ("features", "target", "cost", "search_cost", "search_accuracy"):
        assert getattr(found, name) == getattr(again, name)
    assert np.array_equal(found.used, again.used)


def test_an_image_gets_its_own_whatever_the_others_are() -> None:
    """A rule looks at a single image: the first test images fare as they do among all."""
    answers = decided_by(by_two_numbers)
    few = SplitAnswers(
        answers.test.loss[..., :7],
        answers.test.correct[..., :7],
        answers.test.descriptor[:, :7],
        answers.test.first[:, :7],
    )
    alone = choose_by_image(dataclasses.replace(answers, test=few), "first", 0.5)
    assert np.allclose(alone.correct, choose_by_image(answers, "first", 0.5).correct[:7])


def test_far_budgets() -> None:
    answers = decided_by(by_one_number)
    cheapest = choose_by_image(answers, "descriptor", 0.2)
    assert cheapest.used == pytest.approx([1, 0, 0])
    assert cheapest.cost == pytest.approx(0.2)
    free = choose_by_image(answers, "descriptor", 7.0)
    assert free.cost <= 1
    assert free.accuracy > 0.98


@pytest.mark.parametrize("budget", [0.19, 0.0, -1.0, float("nan")])
def test_too_small_budgets(budget: float) -> None:
    answers = decided_by(by_one_number)
    with pytest.raises(BudgetError, match=r"the cheapest assignment costs 0\.200000"):
        choose_by_image(answers, "first", budget)
    with pytest.raises(BudgetError, match=r"the cheapest assignment costs 0\.200000"):
        oracle_by_image(answers, budget)


def test_wrong_arguments() -> None:
    answers = decided_by(by_one_number)
    with pytest.raises(SettingError, match="features: got 'last', allowed are"):
        choose_by_image(answers, "last", 0.5)
    few = dataclasses.replace(answers, search=blank(np.random.default_rng(0), (3, 3, 4), 4))
    with pytest.raises(DataError, match="got 4 search images, allowed are 5 and more"):
        choose_by_image(few, "first", 0.5)


@st.composite
def any_answers(draw: st.DrawFn) -> tuple[ImageAnswers, float]:
    """Of any kind, with dead and repeated features, equal costs; and a budget they can keep."""
    conditions, count = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = st.sampled_from([0.05, 0.1, 0.3, 0.30000000001, 0.7, 1.0, 2.0])
    costs = np.array(draw(st.lists(levels, min_size=count, max_size=count)))
    dead = draw(st.booleans())
    splits = []
    for images in (draw(st.integers(5, 14)), draw(st.integers(1, 8))):
        split = blank(rng, (conditions, count, images), 3)
        if dead:
            split.first[..., 0] = 0.1
            split.descriptor[..., 1] = split.descriptor[..., 2]
        splits.append(answered(split, rng.uniform(size=split.loss.shape), rng))
    low, high = float(costs.min()), float(costs.max())
    budget = draw(st.sampled_from([low, high, 3.0]) | st.floats(low, 2.5))
    return make_answers(splits, costs), budget


def check(answers: ImageAnswers, found: ImageChoice, budget: float) -> None:
    assert found.used.shape == answers.costs.shape
    assert np.all(found.used >= 0)
    assert found.used.sum() == pytest.approx(1)
    assert found.cost == pytest.approx(found.used @ answers.costs)
    assert found.correct.shape == answers.test.correct.shape[2:]
    assert np.all((found.correct >= 0) & (found.correct <= 1 + 1e-9))
    assert found.accuracy == pytest.approx(found.correct.mean())
    assert 0 <= found.search_accuracy <= 1 + 1e-9
    assert found.search_cost <= budget + 1e-9


@settings(max_examples=60)
@given(case=any_answers(), features=st.sampled_from(FEATURES), seed=st.integers(0, 9))
def test_budgets_are_kept_on_search_and_no_rule_beats_the_oracle(
    case: tuple[ImageAnswers, float], features: str, seed: int
) -> None:
    answers, budget = case
    found = choose_by_image(answers, features, budget, seed)
    check(answers, found, budget)
    assert found.target in ("loss", "correct")
    best = oracle_by_image(answers, max(found.cost, float(answers.costs.min())))
    assert found.accuracy <= best.accuracy + 1e-9
    assert found.search_accuracy <= oracle_by_image(answers, budget).search_accuracy + 1e-9
    again = choose_by_image(answers, features, budget, seed)
    for field in dataclasses.fields(ImageChoice):
        assert np.array_equal(getattr(found, field.name), getattr(again, field.name))


@settings(max_examples=40)
@given(case=any_answers())
def test_the_oracle_is_the_best_there_can_be(case: tuple[ImageAnswers, float]) -> None:
    """As a linear programme over the probabilities that each image gets each assignment."""
    answers, budget = case
    found = oracle_by_image(answers, budget)
    check(answers, found, budget)
    assert found.cost <= budget + 1e-9
    rows = np.moveaxis(answers.test.correct, 1, 2).reshape(-1, len(answers.costs))
    weights = np.repeat(answers.shares, len(found.correct)) / len(found.correct)
    best = linprog(
        -(weights[:, None] * rows).ravel(),
        A_ub=np.outer(weights, answers.costs).reshape(1, -1),
        b_ub=[budget + 1e-9],
        A_eq=np.kron(np.eye(len(rows)), np.ones((1, len(answers.costs)))),
        b_eq=np.ones(len(rows)),
    )
    assert found.accuracy == pytest.approx(-best.fun, abs=1e-6)


def test_the_order_of_assignments_is_no_matter() -> None:
    answers = decided_by(by_two_numbers)
    order = np.array([2, 0, 1])

    def turned(split: SplitAnswers) -> SplitAnswers:
        return dataclasses.replace(
            split, loss=split.loss[:, order], correct=split.correct[:, order]
        )

    other = dataclasses.replace(
        answers,
        costs=answers.costs[order],
        search=turned(answers.search),
        test=turned(answers.test),
    )
    one, two = (choose_by_image(each, "first", 0.5) for each in (answers, other))
    assert np.allclose(one.used[order], two.used)
    assert np.allclose(one.correct, two.correct)


def test_needs_no_torch() -> None:
    code = "import sys; import dqmq_env.benchmark.image_value; print('torch' in sys.modules)"
    root = str(Path(dqmq_env.__file__).parents[1])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
