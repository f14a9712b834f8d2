"""Speed of the tabular twin, against Gymnasium's CartPole and as a share of a training."""

import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from dqmq_env.benchmark.row import Row, compare, middle
from dqmq_env.integrations.sb3 import VecEnvAdapter

_ID = "DQMQ-ResNet8-Tabular-v0"
_STEPS = 30_000
_ROWS = 192


def tabular_rows(rounds: int) -> list[Callable[[], Row]]:
    """What makes each row.

    Args:
        rounds: pairs of times in each comparison.
    """
    return [
        lambda: _single(rounds),
        lambda: _vector(rounds),
        lambda: _throughput(rounds),
        _share_of_ppo,
    ]


def _single(rounds: int) -> Row:
    ours, reference = (_player(gym.make(name)) for name in (_ID, "CartPole-v1"))
    what = f"steps a second of {_ID} through gym.make, against CartPole-v1"
    return compare(what, ">= 1", ours, reference, rounds)


def _vector(rounds: int) -> Row:
    what = f"steps a second of 4,096 episodes of {_ID}, against 1,024 of CartPole-v1's vector class"
    return compare(what, ">= 1", _many(_ID, 4096), _many("CartPole-v1", 1024), rounds, times=4)


def _throughput(rounds: int) -> Row:
    """Not a ratio: steps a second of the machine at hand."""
    play = _many(_ID, 4096)
    play()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        play()
        found.append(_ROWS * 4096 / (time.perf_counter() - start) / 1e6)
    return middle(f"million steps a second of 4,096 episodes of {_ID}", ">= 5", found)


def _share_of_ppo() -> Row:
    """Of the time of a training with Stable-Baselines3's own settings."""
    from stable_baselines3 import PPO

    env = _Clocked(gym.make_vec(_ID, 16))
    model = PPO("MlpPolicy", env, n_steps=128, seed=0, device="cpu")
    start = time.perf_counter()
    model.learn(200_000)
    share = env.seconds / (time.perf_counter() - start)
    return middle(
        f"share of the environment in PPO, 200,000 steps on 16 of {_ID}", "<= 0.2", [share]
    )


class _Clocked(VecEnvAdapter):
    """Takes the time of its steps."""

    seconds = 0.0

    def step_wait(self) -> Any:
        start = time.perf_counter()
        found = super().step_wait()
        self.seconds += time.perf_counter() - start
        return found


def _player(env: gym.Env[Any, Any]) -> Callable[[], None]:
    """Takes random actions one by one."""
    assert isinstance(env.action_space, gym.spaces.Discrete)
    actions = np.random.default_rng(0).integers(env.action_space.n, size=_STEPS).tolist()
    env.reset(seed=0)

    def play() -> None:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return play


def _many(name: str, count: int) -> Callable[[], None]:
    """Takes random actions in many episodes at once."""
    envs = gym.make_vec(name, count, vectorization_mode="vector_entry_point")
    assert isinstance(envs.single_action_space, gym.spaces.Discrete)
    actions = np.random.default_rng(0).integers(envs.single_action_space.n, size=(_ROWS, count))
    envs.reset(seed=0)

    def play() -> None:
        for row in actions:
            envs.step(row)

    return play
