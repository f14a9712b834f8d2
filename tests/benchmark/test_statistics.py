import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dqmq_env.benchmark.statistics import (
    Numbers,
    band,
    first_reaching,
    holm,
    improvement,
    interval,
    iqm,
    mean,
    median_reaching,
    optimality_gap,
    paired_differences,
    profile,
    sign_test,
)

# Scores of two agents, a row for each run and a column for each task, and what rliable 1.2.0 makes
# of them (numpy 2.4.6, scipy 1.17.1, arch 7.2.0, pandas 2.3.3; np.random.seed(0) before it):
#   rliable.library.get_interval_estimates with metrics.aggregate_iqm and
#   metrics.aggregate_optimality_gap (50,000 resamples), with metrics.probability_of_improvement
#   (10,000), and rliable.library.create_performance_profile (20,000).
# rliable itself cannot be a dependency: it does not import beside pandas 3.
X = np.array(
    [
        [0.81, 0.42, 0.97],
        [0.74, 0.55, 0.97],
        [0.90, 0.61, 1.00],
        [0.66, 0.38, 0.93],
        [0.85, 0.47, 0.99],
        [0.74, 0.70, 0.88],
    ]
)
Y = np.array(
    [
        [0.74, 0.50, 0.91],
        [0.60, 0.31, 0.93],
        [0.69, 0.47, 0.97],
        [0.81, 0.12, 0.85],
        [0.55, 0.44, 0.90],
    ]
)
THRESHOLDS = np.array([0.3, 0.5, 0.7, 0.74, 0.9, 1.0])
MONTE_CARLO = 0.006

unit = st.floats(0, 1)


def tasks(runs: int = 6, count: int = 2) -> st.SearchStrategy[list[Numbers]]:
    one = arrays(np.float64, st.integers(1, runs), elements=unit)
    return st.lists(one, min_size=count, max_size=count)


def columns(scores: Numbers) -> list[Numbers]:
    return list(scores.T)


@pytest.mark.parametrize(
    ("scores", "value", "low", "high"),
    [(X, 0.782, 0.733, 0.824), (Y, 0.6788888888888889, 0.62777778, 0.72444444)],
)
def test_interquartile_mean_is_that_of_rliable(
    scores: Numbers, value: float, low: float, high: float
) -> None:
    found = interval(columns(scores), iqm)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.low == pytest.approx(low, abs=MONTE_CARLO)
    assert found.high == pytest.approx(high, abs=MONTE_CARLO)


@pytest.mark.parametrize(
    ("scores", "value", "low", "high"),
    [
        (X, 0.24611111111111106, 0.20833333, 0.28333333),
        (Y, 0.3473333333333334, 0.3, 0.39933333),
    ],
)
def test_optimality_gap_is_that_of_rliable(
    scores: Numbers, value: float, low: float, high: float
) -> None:
    found = interval(columns(scores), optimality_gap)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.low == pytest.approx(low, abs=MONTE_CARLO)
    assert found.high == pytest.approx(high, abs=MONTE_CARLO)


def test_probability_of_improvement_is_that_of_rliable() -> None:
    found = improvement(columns(X), columns(Y))
    assert found.value == pytest.approx(0.7722222222222221, abs=1e-12)
    # it takes few values: a resample moves it by a thirtieth of a task, a ninetieth of the mean
    assert found.low == pytest.approx(0.6, abs=1 / 90)
    assert found.high == pytest.approx(0.91666667, abs=1 / 90)
    turned = improvement(columns(Y), columns(X))
    assert turned.value == pytest.approx(0.22777777777777777, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "value", "low", "high"),
    [
        (
            X,
            [1.0, 0.8333333333333334, 0.6111111111111112, 0.5, 0.2777777777777778, 0.0],
            [1.0, 0.72222222, 0.5, 0.38888889, 0.16666667, 0.0],
            [1.0, 0.94444444, 0.66666667, 0.61111111, 0.33333333, 0.0],
        ),
        (
            Y,
            [0.9333333333333333, 0.6666666666666666, 0.4666666666666667, 0.4, 0.2, 0.0],
            [0.8, 0.66666667, 0.33333333, 0.33333333, 0.06666667, 0.0],
            [1.0, 0.66666667, 0.6, 0.53333333, 0.33333333, 0.0],
        ),
    ],
)
def test_performance_profile_is_that_of_rliable(
    scores: Numbers, value: list[float], low: list[float], high: list[float]
) -> None:
    found = profile(columns(scores), THRESHOLDS, resamples=20_000)
    np.testing.assert_allclose(found.value, value, atol=1e-12)
    # multiples of a run, and none of them lies near the border between two
    np.testing.assert_allclose(found.low, low, atol=1e-7)
    np.testing.assert_allclose(found.high, high, atol=1e-7)


@given(arrays(np.float64, st.integers(1, 40), elements=unit))
def test_interquartile_mean_lies_between_the_quartiles(values: Numbers) -> None:
    low, high = np.quantile(values, (0.25, 0.75), method="inverted_cdf")
    if len(values) < 4:
        low, high = values.min(), values.max()
    assert low - 1e-12 <= iqm(values) <= high + 1e-12


@given(tasks(), st.integers(0, 5))
def test_intervals_are_ordered_and_within_the_scores(scores: list[Numbers], seed: int) -> None:
    found = interval(scores, iqm, resamples=200, seed=seed)
    pooled = np.concatenate(scores)
    if max(map(len, scores)) < 2:
        assert math.isnan(found.low)
        assert math.isnan(found.high)
    else:
        assert pooled.min() - 1e-12 <= found.low <= found.high <= pooled.max() + 1e-12


def test_intervals_cover_what_they_estimate() -> None:
    generator = np.random.default_rng(0)
    samples = [[generator.normal(mid, 1, 12) for mid in (0, 0)] for _ in range(200)]
    found = [interval(own, iqm, resamples=400) for own in samples]
    assert all(own.low <= own.value <= own.high for own in found)
    covered = np.mean([own.low <= 0 <= own.high for own in found])
    assert 0.88 <= covered <= 0.98


def test_runs_are_drawn_again_within_their_task_alone() -> None:
    found = interval([np.zeros(4), np.ones(4)], mean, resamples=500)
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


def test_the_seed_settles_the_interval() -> None:
    scores = columns(X)
    assert interval(scores, iqm, 300, seed=3) == interval(scores, iqm, 300, seed=3)
    assert interval(scores, iqm, 300, seed=3) != interval(scores, iqm, 300, seed=4)
    assert improvement(scores, columns(Y), 300) == improvement(scores, columns(Y), 300)


@given(tasks(), tasks())
def test_improvement_is_antisymmetric(scores: list[Numbers], others: list[Numbers]) -> None:
    own, turned = improvement(scores, others, 100), improvement(others, scores, 100)
    assert own.value == pytest.approx(1 - turned.value)
    assert 0 <= own.value <= 1
    assert improvement(scores, scores, 100).value == pytest.approx(0.5)


@given(tasks())
def test_profiles_fall_from_one_to_zero(scores: list[Numbers]) -> None:
    found = profile(scores, np.linspace(-0.1, 1, 12), resamples=100)
    assert found.value[0] == 1
    assert found.value[-1] == 0
    for line in (found.value, found.low, found.high):
        if not np.isnan(line).any():
            assert (np.diff(line) <= 0).all()


def test_a_band_is_an_interval_at_each_place() -> None:
    found = band([X], iqm, resamples=400)
    for place, column in enumerate(X.T):
        assert found[place] == interval([column], iqm, resamples=400)


def test_pairs_have_equal_seeds() -> None:
    own = [{0: 1.0, 1: 3.0, 5: 9.0}, {2: 1.0}, {0: 4.0}]
    other = [{1: 1.0, 0: 0.5, 7: 2.0}, {3: 1.0}, {0: 1.5}]
    first, second = paired_differences(own, other)
    np.testing.assert_array_equal(first, [0.5, 2.0])
    np.testing.assert_array_equal(second, [2.5])


def test_sign_test_counts_signs_exactly() -> None:
    # of the 8 ways to give signs to 1, 2 and 4, only all alike come to 7 or -7
    assert sign_test([np.array([1.0, 2.0]), np.array([4.0])]) == 2 / 8
    # -1 + 2 + 4 = 5: besides, the two with all alike
    assert sign_test([np.array([-1.0, 2.0, 4.0])]) == 4 / 8
    assert sign_test([np.zeros(3)]) == 1
    assert sign_test([np.array([0.5, -0.5])]) == 1


def test_sign_test_draws_signs_of_many_pairs() -> None:
    generator = np.random.default_rng(1)
    assert sign_test([np.ones(40)]) < 1e-4
    assert sign_test([generator.normal(0, 1, 40)]) > 0.05
    exact = sign_test([np.array([*np.ones(11), -1, -1, -1])])
    more = sign_test([np.array([*np.ones(11), -1, -1, -1, 0.0])])
    assert more == pytest.approx(exact, abs=0.003)


def test_holm_adjusts_from_the_smallest() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9})
    assert found == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.9})
    assert holm({}) == {}


@given(st.dictionaries(st.text(), unit))
def test_holm_never_lowers_or_reorders(chances: dict[str, float]) -> None:
    found = holm(chances)
    assert found.keys() == chances.keys()
    assert all(chances[name] <= found[name] <= 1 for name in chances)
    ordered = sorted(chances, key=lambda name: chances[name])
    assert [found[name] for name in ordered] == sorted(found.values())


def test_first_reaching_and_its_median() -> None:
    curve = [(9, 0.5), (20, 0.8), (50, 0.8), (100, 0.9)]
    assert first_reaching(curve, 0.5) == 9
    assert first_reaching(curve, 0.8) == 20
    assert first_reaching(curve, 0.91) is None
    assert median_reaching([10, None, 20]) == 20
    assert median_reaching([10, None]) is None
    assert median_reaching([10, 30, None, None]) is None
    assert median_reaching([None, None, 4]) is None
    assert median_reaching([4, 8]) == 6
