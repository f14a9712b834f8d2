"""Which algorithms there are, and their arguments from settings that count in episodes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import sb3_contrib
import stable_baselines3
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.utils import LinearSchedule

from dqmq_env.errors import SettingError

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """How the evaluations of a search are laid out.

    Attributes:
        envs: episodes side by side.
        rounds: of them for each update.
        updates: number of updates.
        decisions: steps of an episode.
    """

    envs: int
    rounds: int
    updates: int
    decisions: int

    @classmethod
    def of(cls, settings: Settings, evaluations: int, decisions: int) -> "Plan":
        """As the settings say; smaller updates where the evaluations do not suffice for one."""
        envs = min(settings["envs"], evaluations)
        rounds = min(settings["rounds"], evaluations // envs)
        return cls(envs, rounds, evaluations // (envs * rounds), decisions)

    @property
    def steps(self) -> int:
        """Steps of each environment for an update."""
        return self.rounds * self.decisions

    @property
    def total(self) -> int:
        """Steps of all environments and updates."""
        return self.envs * self.steps * self.updates


def rollout_arguments(settings: Settings, plan: Plan) -> dict[str, Any]:
    """For algorithms that learn from what was just played: an update takes whole episodes.

    ``minibatches``, where an algorithm has them, are as many as divide an update evenly.
    """
    own = _shared(settings)
    minibatches = own.pop("minibatches", None)
    if minibatches is not None:
        size = plan.envs * plan.steps
        own["batch_size"] = size // gcd(size, minibatches)
    return own | {"n_steps": plan.steps}


def replay_arguments(settings: Settings, plan: Plan) -> dict[str, Any]:
    """For algorithms that learn from all that was played.

    ``random_fraction`` of the evaluations are spent on random actions; ``n_steps`` beyond the
    decisions are the whole episode. Where an algorithm has these, ``noise`` is the standard
    deviation of what is added to actions, ``target_update`` the number of episodes between copies
    of the critic.
    """
    own = _shared(settings)
    noise = own.pop("noise", None)
    if noise is not None:
        own["action_noise"] = NormalActionNoise(np.zeros(1), np.full(1, noise))
    episodes = own.pop("target_update", None)
    if episodes is not None:
        own["target_update_interval"] = episodes * plan.decisions
    return own | {
        "n_steps": min(own["n_steps"], plan.decisions),
        "learning_starts": int(own.pop("random_fraction") * plan.total),
        "train_freq": plan.steps,
        "buffer_size": plan.total,
    }


@dataclass(frozen=True)
class Algorithm:
    """One of the eight.

    Attributes:
        model: class of the library.
        arguments: what it is made with.
        actions: form of its actions.
        policy: the library's name of its networks.
        masked: whether it takes action masks.
    """

    model: Callable[..., Any]
    arguments: Callable[[Settings, Plan], dict[str, Any]] = rollout_arguments
    actions: str = "discrete"
    policy: str = "MlpPolicy"
    masked: bool = False

    @property
    def networks(self) -> Callable[..., Any]:
        """The class of its networks."""
        found: Callable[..., Any] = self.model.policy_aliases[self.policy]  # type: ignore[attr-defined]
        return found


ALGORITHMS: Mapping[str, Algorithm] = {
    "ppo": Algorithm(stable_baselines3.PPO),
    "a2c": Algorithm(stable_baselines3.A2C),
    "dqn": Algorithm(stable_baselines3.DQN, replay_arguments),
    "ddpg": Algorithm(stable_baselines3.DDPG, replay_arguments, "continuous"),
    "td3": Algorithm(stable_baselines3.TD3, replay_arguments, "continuous"),
    "sac": Algorithm(stable_baselines3.SAC, replay_arguments, "continuous"),
    "maskable-ppo": Algorithm(sb3_contrib.MaskablePPO, masked=True),
    "recurrent-ppo": Algorithm(sb3_contrib.RecurrentPPO, policy="MlpLstmPolicy"),
}


def algorithm_of(name: str) -> Algorithm:
    """The algorithm of that name.

    Raises:
        SettingError: there is no such algorithm.
    """
    if name not in ALGORITHMS:
        raise SettingError(f"algorithm: got {name!r}, allowed are {list(ALGORITHMS)}")
    return ALGORITHMS[name]


def networks_of(settings: Settings) -> dict[str, Any]:
    """The settings that the networks are made with."""
    names = ("net_arch", "lstm_hidden_size", "n_critics")
    return {name: settings[name] for name in names if name in settings}


def _shared(settings: Settings) -> dict[str, Any]:
    """What all algorithms take: no discount, and a learning rate that falls linearly."""
    networks = networks_of(settings)
    own = {name: value for name, value in settings.items() if name not in networks}
    for name in ("envs", "rounds"):
        own.pop(name)
    rate = LinearSchedule(own.pop("learning_rate"), own.pop("final_learning_rate"), 1.0)
    return own | {"gamma": 1.0, "learning_rate": rate, "policy_kwargs": networks}
