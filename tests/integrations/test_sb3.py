from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import VecMonitor

from dqmq_env.costs import Bops
from dqmq_env.envs.vector import BitWidthVectorEnv
from dqmq_env.errors import SettingError
from dqmq_env.integrations.sb3 import VecEnvAdapter
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.task.budget import Budget
from dqmq_env.task.task import Task

ROLLOUT = {"n_steps": 16}
REPLAY = {"learning_starts": 32, "batch_size": 16}


@pytest.mark.parametrize(
    ("algorithm", "policy", "form", "settings"),
    [
        (PPO, "MlpPolicy", "discrete", ROLLOUT | {"batch_size": 32}),
        (PPO, "MlpPolicy", "continuous", ROLLOUT | {"batch_size": 32}),
        (PPO, "MlpPolicy", "one-shot", ROLLOUT | {"batch_size": 32}),
        (A2C, "MlpPolicy", "discrete", {}),
        (DQN, "MlpPolicy", "discrete", REPLAY),
        (DDPG, "MlpPolicy", "continuous", REPLAY),
        (TD3, "MlpPolicy", "continuous", REPLAY),
        (SAC, "MlpPolicy", "continuous", REPLAY),
        (MaskablePPO, "MlpPolicy", "discrete", ROLLOUT | {"batch_size": 32}),
        (MaskablePPO, "MlpPolicy", "one-shot", ROLLOUT | {"batch_size": 32}),
        (RecurrentPPO, "MlpLstmPolicy", "discrete", ROLLOUT | {"batch_size": 32}),
        (QRDQN, "MlpPolicy", "discrete", REPLAY),
    ],
)
def test_algorithms_train(
    tiny_problem: NetworkProblem, algorithm: Any, policy: str, form: str, settings: dict[str, Any]
) -> None:
    task = Task(budget=Budget(Bops(), 0.4))
    env = VecEnvAdapter(BitWidthVectorEnv(4, tiny_problem, task, form))
    model = algorithm(policy, env, seed=0, device="cpu", **settings)
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(256)
    assert model.num_timesteps >= 256
    changed = zip(before, model.policy.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in changed)
    assert len(model.ep_info_buffer) > 0
    assert all(0 <= episode["r"] <= 1 for episode in model.ep_info_buffer)


def test_ends_are_reported_as_sb3_expects(tiny_problem: NetworkProblem) -> None:
    env = VecEnvAdapter(BitWidthVectorEnv(3, tiny_problem))
    env.seed(5)
    observations = env.reset()
    assert observations.shape == (3, *env.observation_space.shape)  # type: ignore[union-attr]
    assert [set(info) for info in env.reset_infos] == [{"condition", "action_mask", "batch"}] * 3
    length = tiny_problem and env.env.core.decisions
    for step in range(1, length + 1):
        observations, rewards, dones, infos = env.step(np.zeros(3, np.int64))
        assert rewards.dtype == np.float32
        assert dones.all() == (step == length)
        if step < length:
            assert infos == [{}, {}, {}]
    for number, info in enumerate(infos):
        assert info["TimeLimit.truncated"] is False
        assert info["episode"] == {"r": pytest.approx(float(rewards[number])), "l": length}
        assert not np.array_equal(info["terminal_observation"], observations[number])
        assert 0 <= info["accuracy"] <= 1


def test_seeds_are_used_at_the_next_reset_only(tiny_problem: NetworkProblem) -> None:
    env = VecEnvAdapter(BitWidthVectorEnv(8, tiny_problem))
    env.seed(1)
    first, second = env.reset(), env.reset()
    env.seed(1)
    np.testing.assert_array_equal(env.reset(), first)
    np.testing.assert_array_equal(env.reset(), second)
    assert not np.array_equal(first, second)


def test_masks_reach_maskable_ppo(tiny_problem: NetworkProblem) -> None:
    task = Task(budget=Budget(Bops(), 0.15))
    env = VecEnvAdapter(BitWidthVectorEnv(2, tiny_problem, task))
    env.reset()
    assert env.has_attr("action_masks")
    masks = env.env_method("action_masks")
    assert len(masks) == 2
    np.testing.assert_array_equal(np.stack(masks), env.env.action_masks())
    assert not np.stack(masks).all()


def test_vec_monitor_writes_rows(tiny_problem: NetworkProblem, tmp_path: Any) -> None:
    path = tmp_path / "monitor.csv"
    env = VecMonitor(VecEnvAdapter(BitWidthVectorEnv(2, tiny_problem)), str(path))
    env.reset()
    for _ in range(env.get_attr("core")[0].decisions):
        env.step(np.zeros(2, np.int64))
    env.close()
    assert len(path.read_text().splitlines()) == 4


def test_other_autoreset_modes_are_refused() -> None:
    with pytest.raises(SettingError, match="SAME_STEP"):
        VecEnvAdapter(gym.make_vec("CartPole-v1", 2))
