import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqmq_env.errors import ConditionError
from dqmq_env.quality import (
    CLEAN,
    CORRUPTION_NAMES,
    DEFAULT_CORRUPTIONS,
    DEFAULT_MIXTURE,
    Condition,
    Mixture,
)

CONDITIONS = st.just(CLEAN) | st.builds(
    Condition, st.sampled_from(CORRUPTION_NAMES), st.integers(1, 5)
)
WEIGHTS = st.dictionaries(CONDITIONS, st.floats(1e-6, 1e6), min_size=1)


@given(WEIGHTS)
def test_probabilities_are_normalised_weights(weights: dict[Condition, float]) -> None:
    mixture = Mixture(weights)
    total = math.fsum(weights.values())
    assert mixture.conditions == tuple(weights)
    assert mixture.probabilities == pytest.approx([w / total for w in weights.values()])
    assert math.fsum(mixture.probabilities) == pytest.approx(1)


@given(WEIGHTS)
def test_json_gives_back_an_equal_mixture(weights: dict[Condition, float]) -> None:
    mixture = Mixture(weights)
    read = Mixture.from_dict(json.loads(json.dumps(mixture.to_dict())))
    assert read == mixture
    assert hash(read) == hash(mixture)
    assert pickle.loads(pickle.dumps(mixture)) == mixture


def test_takes_texts_and_drops_zero_weights() -> None:
    mixture = Mixture({"clean": 3, "jpeg/2": 1, "contrast/1": 0})
    assert mixture.conditions == (CLEAN, Condition("jpeg", 2))
    assert mixture.probabilities == (0.75, 0.25)
    assert repr(mixture) == "Mixture({'clean': 0.75, 'jpeg/2': 0.25})"
    assert mixture != Mixture.uniform(mixture.conditions)
    assert mixture != "clean"


def test_default_mixture_is_a_ninth_each() -> None:
    shares: dict[str, float] = {}
    weights = zip(DEFAULT_MIXTURE.conditions, DEFAULT_MIXTURE.probabilities, strict=True)
    for condition, probability in weights:
        shares[condition.corruption] = shares.get(condition.corruption, 0) + probability
        if condition != CLEAN:
            assert probability == pytest.approx(1 / 45)
    assert shares == pytest.approx(dict.fromkeys(("clean", *DEFAULT_CORRUPTIONS), 1 / 9))
    assert len(DEFAULT_MIXTURE.conditions) == 41


def test_sampling_follows_the_probabilities() -> None:
    mixture = Mixture({"clean": 0.5, "jpeg/2": 0.3, "contrast/1": 0.2})
    drawn = mixture.sample(20_000, np.random.default_rng(0))
    for condition, probability in zip(mixture.conditions, mixture.probabilities, strict=True):
        # Five standard deviations of a binomial share.
        margin = 5 * math.sqrt(probability * (1 - probability) / len(drawn))
        assert drawn.count(condition) / len(drawn) == pytest.approx(probability, abs=margin)


def test_sampling_is_fixed_by_the_generator() -> None:
    first = DEFAULT_MIXTURE.sample(50, np.random.default_rng(3))
    assert first == DEFAULT_MIXTURE.sample(50, np.random.default_rng(3))
    assert first != DEFAULT_MIXTURE.sample(50, np.random.default_rng(4))
    assert DEFAULT_MIXTURE.sample(0, np.random.default_rng(3)) == []


def test_uniform() -> None:
    mixture = Mixture.uniform(["clean", Condition("jpeg", 1), "jpeg/2", "jpeg/3"])
    assert mixture.probabilities == (0.25,) * 4
    with pytest.raises(ConditionError, match="jpeg/1 more than once"):
        Mixture.uniform(["jpeg/1", Condition("jpeg", 1)])
    with pytest.raises(ConditionError, match="sum of 0"):
        Mixture.uniform([])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "sum of 0"),
        ({"clean": 0.0}, "sum of 0"),
        ({"clean": -0.1, "jpeg/1": 1}, "got -0.1 for clean"),
        ({"clean": math.nan}, "got nan for clean"),
        ({"clean": math.inf}, "got inf for clean"),
        ({"clean": 1e308, "jpeg/1": 1e308}, "finite and more than 0"),
        ({"clean": 1, CLEAN: 1}, "got clean twice"),
        ({"fog/1": 1}, "corruption: got 'fog'"),
    ],
)
def test_refuses_wrong_weights(weights: Any, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        Mixture(weights)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"schema_version": 2, "weights": {"clean": 1}},
        {"schema_version": 1},
        {"schema_version": 1, "weights": ["clean"]},
        {"schema_version": 1, "weights": {}},
        {"schema_version": 1, "weights": {"clean": "1"}},
        {"schema_version": 1, "weights": {"fog/1": 1}},
    ],
)
def test_refuses_foreign_json(data: dict[str, Any]) -> None:
    with pytest.raises(ConditionError):
        Mixture.from_dict(data)


def test_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        DEFAULT_MIXTURE.probabilities = ()  # type: ignore[misc]


def test_numbers_stand_for_conditions_as_numpy_draws_them() -> None:
    """Whoever saved a seed gets the conditions that they got."""
    mixture = Mixture({"clean": 3, "jpeg/2": 1, "contrast/5": 0.3})
    expected = np.random.default_rng(5).choice(3, size=500, p=mixture.probabilities)
    numbers = np.random.default_rng(5).random(500)
    assert mixture.places(numbers).tolist() == expected.tolist()
    assert [mixture.place(number) for number in numbers] == expected.tolist()
