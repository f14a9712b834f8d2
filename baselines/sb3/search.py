"""Searching by an agent of Stable-Baselines3 that plays episodes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stable_baselines3.common.logger import Logger

from baselines.sb3.agent import SB3Agent
from baselines.sb3.algorithms import Plan, algorithm_of, networks_of
from baselines.sb3.generators import seeded
from baselines.sb3.presets import preset_of
from dqmq_env.envs.core import Core
from dqmq_env.envs.vector import BitWidthVectorEnv
from dqmq_env.errors import SearchError
from dqmq_env.integrations.sb3 import VecEnvAdapter
from dqmq_env.randomness import derive_seed
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.task.task import Task
from dqmq_env.threads import one_thread


@dataclass(frozen=True)
class SB3Search:
    """Reinforcement learning: an episode is an evaluation, and the last policy is the answer.

    An update takes whole episodes, ``envs`` side by side and ``rounds`` of them; evaluations that
    make no whole update are left. Other settings are arguments of the algorithm by their names
    there, but for those that :mod:`baselines.sb3.algorithms` explains.

    Attributes:
        algorithm: ``ppo``, ``a2c``, ``dqn``, ``ddpg``, ``td3``, ``sac``, ``maskable-ppo`` or
            ``recurrent-ppo``.
        preset: section of the algorithm's file in ``baselines/sb3/settings``.
        settings: what is to be different from that section.

    Raises:
        SettingError: no such algorithm, section or setting, or a value is not allowed.
    """

    algorithm: str = "ppo"
    preset: str = "default"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        algorithm_of(self.algorithm)
        preset_of(self.algorithm, self.preset, self.settings)

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> SB3Agent:
        """See :class:`~dqmq_env.search.protocol.Searcher`.

        Raises:
            SearchError: there is nothing to spend.
        """
        if evaluations < 1:
            raise SearchError(f"evaluations: got {evaluations}, allowed are 1 and more")
        algorithm = algorithm_of(self.algorithm)
        settings = preset_of(self.algorithm, self.preset, self.settings)
        plan = Plan.of(settings, evaluations, Core(problem, task).decisions)
        own = derive_seed(seed, "sb3", self.algorithm) % 2**31
        env = VecEnvAdapter(BitWidthVectorEnv(plan.envs, problem, task, algorithm.actions))
        env.seed(own)
        env.action_space.seed(own)
        with one_thread(), seeded(own):
            arguments = algorithm.arguments(settings, plan)
            model = algorithm.model(algorithm.policy, env, device="cpu", **arguments)
            # its own logger would make a folder
            model.set_logger(Logger(None, []))
            model.learn(plan.total, log_interval=None)
        return SB3Agent(self.algorithm, model.policy, networks_of(settings))
