import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqmq_env.envs.actions import action_form
from dqmq_env.errors import ActionError, SettingError

CANDIDATES = (2, 3, 4, 5, 6, 7, 8)


def haq_bits(share: float, low: int, high: int) -> int:
    """The formula of HAQ's linear_quantize_env.py, with Python's rounding of halves to even."""
    return min(high, max(low, round((high - low + 1) * share + low - 0.5)))


@given(st.floats(-1, 1, width=32))
def test_continuous_follows_haq(action: float) -> None:
    form = action_form("continuous", CANDIDATES, 4)
    index = form.indices(np.array([[action]], np.float32), 1)[0, 0]
    share = (float(np.float32(action)) + 1) / 2
    assert CANDIDATES[index] == haq_bits(share, 2, 8)


@pytest.mark.parametrize(("action", "bits"), [(-1.0, 2), (1.0, 8), (0.0, 5)])
def test_continuous_ends_and_middle(action: float, bits: int) -> None:
    form = action_form("continuous", CANDIDATES, 4)
    assert CANDIDATES[form.indices(np.array([[action]]), 1)[0, 0]] == bits


@given(st.floats(-1, 1), st.lists(st.integers(1, 8), min_size=2, unique=True).map(sorted))
def test_continuous_always_gives_a_candidate_and_is_monotone(
    action: float, candidates: list[int]
) -> None:
    form = action_form("continuous", candidates, 1)
    low, high = form.indices(np.array([[min(action, 0.5)], [max(action, 0.5)]]), 2)[:, 0]
    assert 0 <= low <= high < len(candidates)


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("discrete", np.nan),
        ("discrete", 1.0),
        ("discrete", 7),
        ("discrete", -1),
        ("discrete", [1]),
        ("discrete", "two"),
        ("continuous", [np.nan]),
        ("continuous", [1.5]),
        ("continuous", [0.1, 0.2]),
        ("continuous", 0.5),
        ("continuous", ["two"]),
        ("one-shot", [1, 2, 3]),
        ("one-shot", [0, 0, 0, 9]),
        ("one-shot", [0.0, 0.0, 0.0, 0.0]),
        ("one-shot", 3),
    ],
)
def test_wrong_actions_are_refused(name: str, action: object) -> None:
    form = action_form(name, CANDIDATES, 4)
    with pytest.raises(ActionError, match="action"):
        form.indices(np.asarray(action)[None], 1)


@pytest.mark.parametrize("name", ["discrete", "continuous", "one-shot"])
def test_every_sample_of_the_space_is_taken(name: str) -> None:
    form = action_form(name, CANDIDATES, 4)
    form.space.seed(0)
    for _ in range(50):
        indices = form.indices(np.asarray(form.space.sample())[None], 1)
        assert indices.dtype == np.int64
        assert ((indices >= 0) & (indices < 7)).all()


def test_an_unknown_form_names_those_there_are() -> None:
    with pytest.raises(SettingError, match="one-shot"):
        action_form("bogus", CANDIDATES, 4)
