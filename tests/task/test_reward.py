import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env.errors import SettingError
from dqmq_env.problem.protocol import Outcome
from dqmq_env.task.reward import (
    AccuracyReward,
    CostPotential,
    HaqReward,
    NoPotential,
    WeightedReward,
)

unit = st.floats(0, 1)


def outcome(*accuracies: float) -> Outcome:
    return Outcome(np.array(accuracies), np.zeros(len(accuracies)))


@settings(max_examples=50)
@given(accuracy=unit, size=unit, bops=unit, weight=unit, cost=st.sampled_from(["size", "bops"]))
def test_weighted_reward_is_its_formula(
    accuracy: float, size: float, bops: float, weight: float, cost: str
) -> None:
    costs = {"size": np.array([size]), "bops": np.array([bops])}
    rewards = WeightedReward(cost, weight)(outcome(accuracy), costs)
    paid = {"size": size, "bops": bops}[cost]
    assert rewards.shape == (1,)
    assert rewards[0] == pytest.approx((1 - weight) * accuracy + weight * (1 - paid))
    assert -1e-12 <= rewards[0] <= 1 + 1e-12


def test_weighted_reward_stays_bounded_above_the_cost_at_eight_bits() -> None:
    costs = {"bops": np.array([0.5, 16.0])}
    assert WeightedReward(weight=0.5)(outcome(1, 0), costs).tolist() == [0.75, 0]


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_other_weights_are_refused(weight: float) -> None:
    with pytest.raises(SettingError, match="weight: got"):
        WeightedReward(weight=weight)


def test_an_unknown_cost_is_refused() -> None:
    with pytest.raises(SettingError, match="cost: got 'flops'"):
        WeightedReward(cost="flops")


def test_accuracy_reward_is_the_accuracy_and_a_copy() -> None:
    result = outcome(0.5, 0.25)
    rewards = AccuracyReward()(result, {})
    assert rewards.tolist() == [0.5, 0.25]
    rewards[0] = 0
    assert result.accuracy.tolist() == [0.5, 0.25]


def test_haq_reward_is_a_tenth_of_the_percent_points_gained() -> None:
    rewards = HaqReward(0.9)(outcome(0.9, 0.85, 1.0), {})
    assert rewards.tolist() == pytest.approx([0, -0.5, 1.0])


def test_potentials() -> None:
    spent = np.array([0.0, 0.5, 1.0])
    assert NoPotential()(spent).tolist() == [0, 0, 0]
    assert CostPotential(0.4)(spent).tolist() == pytest.approx([0, -0.2, -0.4])
