import gymnasium as gym
import numpy as np
import pytest

from dqmq_env import BitAssignment
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.envs.wrappers import HideQuality, MultiObjective, ReportTest
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.task.reward import AccuracyReward, CostPotential, HaqReward, WeightedReward
from dqmq_env.task.task import Task


def play(env: gym.Env, seed: int) -> tuple[list, dict]:  # type: ignore[type-arg]
    """Rewards and last info of an episode of seeded random actions."""
    env.reset(seed=seed)
    env.action_space.seed(seed)
    rewards, done, info = [], False, {}
    while not done:
        _, reward, done, _, info = env.step(env.action_space.sample())
        rewards.append(reward)
    return rewards, info


def test_hidden_quality_is_zero_and_the_rest_is_not(tiny_problem: NetworkProblem) -> None:
    env = BitWidthEnv(tiny_problem)
    layout = env.core.observer.layout
    plain, _ = env.reset(seed=0)
    hidden, _ = HideQuality(env).reset(seed=0)
    both, _ = HideQuality(env, hide_activation=True).reset(seed=0)
    assert plain[layout.part("quality")].any()
    assert not hidden[layout.part("quality")].any()
    assert hidden[layout.part("activation")].any()
    assert not both[layout.part("activation")].any()
    np.testing.assert_array_equal(plain[layout.part("layer")], hidden[layout.part("layer")])


def test_several_objectives_come_as_a_vector(tiny_problem: NetworkProblem) -> None:
    env = MultiObjective(BitWidthEnv(tiny_problem))
    rewards, info = play(env, 0)
    assert all(env.reward_space.contains(reward) for reward in rewards)
    assert not any(reward.any() for reward in rewards[:-1])
    expected = [info["accuracy"], 1 - info["costs"]["bops"]]
    np.testing.assert_allclose(rewards[-1], expected, rtol=1e-6)


def test_a_final_report_has_the_test_split(tiny_problem: NetworkProblem) -> None:
    plain, info = play(BitWidthEnv(tiny_problem), 2)
    rewards, reported = play(ReportTest(BitWidthEnv(tiny_problem)), 2)
    test = reported.pop("test")
    assert (rewards, reported) == (plain, info)
    assignment = BitAssignment(info["assignment"])
    expected = tiny_problem.evaluate(assignment, info["condition"], "test")
    assert test == {"accuracy": expected.accuracy[0], "loss": expected.loss[0]}


def test_wrappers_refuse_other_environments() -> None:
    with pytest.raises(SettingError, match="env"):
        HideQuality(gym.make("CartPole-v1"))


@pytest.mark.parametrize("seed", range(5))
def test_shaping_leaves_returns_as_they_are(tiny_problem: NetworkProblem, seed: int) -> None:
    plain, _ = play(BitWidthEnv(tiny_problem), seed)
    dense, _ = play(BitWidthEnv(tiny_problem, Task(potential=CostPotential(0.2))), seed)
    assert sum(dense) == pytest.approx(sum(plain), abs=1e-12)
    assert all(reward == 0 for reward in plain[:-1])
    assert all(reward < 0 for reward in dense[:-1])


def test_rewards_follow_their_formulas(tiny_problem: NetworkProblem) -> None:
    rewards, info = play(BitWidthEnv(tiny_problem, Task(WeightedReward("size", 0.4))), 3)
    expected = 0.6 * info["accuracy"] + 0.4 * (1 - info["costs"]["size"])
    assert rewards[-1] == pytest.approx(expected)
    rewards, info = play(BitWidthEnv(tiny_problem, Task(AccuracyReward())), 3)
    assert rewards[-1] == info["accuracy"]
    rewards, info = play(BitWidthEnv(tiny_problem, Task(HaqReward(0.5))), 3)
    assert rewards[-1] == pytest.approx(0.1 * (100 * info["accuracy"] - 50))
