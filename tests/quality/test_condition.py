from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqmq_env.errors import ConditionError, DQMQError
from dqmq_env.quality import (
    CLEAN,
    CORRUPTION_NAMES,
    DEFAULT_CONDITIONS,
    DEFAULT_CORRUPTIONS,
    Condition,
)

CONDITIONS = st.builds(Condition, st.sampled_from(CORRUPTION_NAMES), st.integers(1, 5))


@given(CONDITIONS | st.just(CLEAN))
def test_text_and_condition_are_one(condition: Condition) -> None:
    assert Condition.parse(str(condition)) == condition
    assert Condition.parse(condition) is condition


def test_texts() -> None:
    assert str(Condition("gaussian_noise", 3)) == "gaussian_noise/3"
    assert str(CLEAN) == "clean"
    assert [str(condition) for condition in DEFAULT_CONDITIONS] == [
        "clean",
        *(f"{name}/3" for name in DEFAULT_CORRUPTIONS),
    ]
    assert len(DEFAULT_CORRUPTIONS) == 8


def test_conditions_are_ordered_and_hashable() -> None:
    jpeg = [Condition("jpeg", severity) for severity in (3, 1, 2)]
    assert [condition.severity for condition in sorted(jpeg)] == [1, 2, 3]
    assert len({*jpeg, *jpeg, CLEAN}) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gausian_noise/3", "got 'gausian_noise', .*; did you mean 'gaussian_noise'"),
        ("", "corruption: got '', must be one of clean, gaussian_noise, "),
        ("jpeg", "severity: got '' in 'jpeg', must be 1 to 5, such as 'jpeg/3'"),
        ("jpeg/0", "severity: got '0'"),
        ("jpeg/6", "severity: got '6'"),
        ("jpeg/03", "severity: got '03'"),
        ("jpeg/3/3", "severity: got '3/3'"),
        ("jpeg/ 3", "severity: got ' 3'"),
        ("clean/3", "got 'clean/3', must be 'clean' alone"),
        ("clean/", "got 'clean/', must be 'clean' alone"),
        (None, "condition: got None, must be text"),
    ],
)
def test_parse_refuses_what_is_no_condition(text: Any, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        Condition.parse(text)


@pytest.mark.parametrize(
    ("corruption", "severity"),
    [("jpeg", 0), ("jpeg", 6), ("jpeg", 3.0), ("jpeg", True), ("clean", 1), ("fog", 3)],
)
def test_only_conditions_can_be_made(corruption: str, severity: Any) -> None:
    with pytest.raises(ConditionError):
        Condition(corruption, severity)


@given(st.text())
def test_any_text_parses_or_raises_the_documented_error(text: str) -> None:
    try:
        condition = Condition.parse(text)
    except ConditionError:
        return
    assert str(condition) == text


def test_error_is_one_of_ours_and_a_value_error() -> None:
    assert issubclass(ConditionError, DQMQError)
    assert issubclass(ConditionError, ValueError)
