"""The environment of many episodes at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from dqmq_env.envs.actions import action_form
from dqmq_env.envs.core import Core
from dqmq_env.envs.draws import Draws
from dqmq_env.envs.episodes import masked
from dqmq_env.envs.players import batch_of
from dqmq_env.errors import SettingError
from dqmq_env.problem.protocol import Problem
from dqmq_env.task.task import Task

Observations = NDArray[np.float32]
Flags = NDArray[np.bool_]


class BitWidthVectorEnv(VectorEnv[Observations, Any, Any]):
    """N episodes in step, each equal to a single environment with a seed of its own.

    Sub-environment ``i`` of ``reset(seed=s)`` is the single environment of ``reset(seed=s + i)``,
    step by step. All episodes end together; the step that ends them begins the next ones
    (``SAME_STEP``): the last observations are in ``info["final_obs"]``, what is known of the ended
    episodes in ``info["final_info"]``. Every ``info`` holds ``action_mask``, what :meth:`action_masks`
    gives.

    Args:
        num_envs: N.
        problem: the network, its images, its candidate bits.
        task: reward and budget.
        actions: ``discrete``, ``continuous`` or ``one-shot``.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}

    def __init__(
        self, num_envs: int, problem: Problem, task: Task | None = None, actions: str = "discrete"
    ) -> None:
        if num_envs < 1:
            raise SettingError(f"num_envs: got {num_envs}, allowed are 1 and more")
        self.num_envs = num_envs
        self.core = Core(problem, task or Task())
        self._batch = batch_of(self.core, num_envs)
        self._form = action_form(actions, self.core.candidates, self.core.decisions)
        self.single_observation_space = self.core.observation_space
        self.single_action_space = self._form.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._draws = Draws(problem, num_envs)
        self._conditions: NDArray[np.object_] = np.empty(num_envs, object)

    @property
    def problem(self) -> Problem:
        """The problem that the environment is about."""
        return self.core.problem

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, dict[str, Any]]:
        """Draw a condition and a batch of ``search`` images for each episode.

        Args:
            seed: ``s`` seeds episode ``i`` with ``s + i``; a sequence gives each its own, and
                ``None`` lets a generator go on.
            options: ``{"condition": "gaussian_noise/3"}`` and ``{"batch": 2}`` fix what is drawn,
                for all episodes.

        Raises:
            ConditionError: there is no such condition.
            SettingError: an unknown option, a batch that does not exist, or too few seeds.
        """
        self._seed(seed)
        return self._begin(options)

    def step(
        self, actions: Any
    ) -> tuple[Observations, NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """Give the layer at hand of each episode its bits.

        Raises:
            ActionError: the actions are not in the action space.
        """
        indices = self._form.indices(actions, self.num_envs)
        observations, rewards, finished = self._batch.decide(indices)
        truncated = np.zeros(self.num_envs, np.bool_)
        if finished is None:
            return observations, rewards, truncated.copy(), truncated, self._info()
        figures = {"condition": self._conditions, **finished.figures()}
        begun, info = self._begin(None)
        info |= {
            "final_obs": np.fromiter(observations, object, self.num_envs),
            "_final_obs": np.ones(self.num_envs, np.bool_),
            "final_info": masked(figures, self.num_envs),
            "_final_info": np.ones(self.num_envs, np.bool_),
        }
        return begun, rewards, np.ones(self.num_envs, np.bool_), truncated, info

    def action_masks(self) -> Flags:
        """Which indices leave the budget reachable, shape (N, K); one-shot: (N, D * K)."""
        return self._form.masks(self.core, self._batch, self.num_envs)

    def _begin(self, options: dict[str, Any] | None) -> tuple[Observations, dict[str, Any]]:
        starts = self._draws.draw(options)
        observations = self._batch.reset(starts)
        names = np.array([str(condition) for condition in starts.conditions], object)
        self._conditions = names[starts.rows]
        return observations, self._info() | masked({"batch": starts.batches}, self.num_envs)

    def _info(self) -> dict[str, Any]:
        figures = {"condition": self._conditions.copy(), "action_mask": self.action_masks()}
        return masked(figures, self.num_envs)

    def _seed(self, seed: int | Sequence[int | None] | None) -> None:
        if seed is None:
            return
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else list(seed)
        if len(seeds) != self.num_envs:
            raise SettingError(f"seed: got {len(seeds)}, allowed are {self.num_envs}, one for each")
        self._draws.seed(seeds)
