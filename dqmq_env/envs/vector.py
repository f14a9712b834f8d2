"""The environment of many episodes at a time: a thin view of the batched core."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from dqmq_env.envs.actions import action_form
from dqmq_env.envs.core import BatchedCore
from dqmq_env.envs.episodes import draw_episode, finished_info
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
        self.core = BatchedCore(problem, task or Task(), num_envs)
        self._form = action_form(actions, self.core.candidates, self.core.decisions)
        self.single_observation_space = self.core.observation_space
        self.single_action_space = self._form.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators = [seeding.np_random()[0] for _ in range(num_envs)]

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
        observations, rewards, finished = self.core.decide(indices)
        truncated = np.zeros(self.num_envs, np.bool_)
        if finished is None:
            return observations, rewards, truncated.copy(), truncated, self._info()
        conditions = [str(condition) for condition in self.core.conditions]
        ended: dict[str, Any] = {}
        for number in range(self.num_envs):
            row = {"condition": conditions[number], **finished_info(finished, number)}
            ended = self._add_info(ended, row, number)
        begun, info = self._begin(None)
        every = np.ones(self.num_envs, np.bool_)
        final = np.empty(self.num_envs, dtype=object)
        final[:] = list(observations)
        info |= {
            "final_obs": final,
            "_final_obs": every,
            "final_info": ended,
            "_final_info": every.copy(),
        }
        return begun, rewards, every.copy(), truncated, info

    def action_masks(self) -> Flags:
        """Which indices leave the budget reachable, shape (N, K); one-shot: (N, D * K)."""
        return self._form.masks(self.core)

    def _begin(self, options: dict[str, Any] | None) -> tuple[Observations, dict[str, Any]]:
        drawn = [draw_episode(self.problem, rng, options) for rng in self._generators]
        conditions, batches = [pair[0] for pair in drawn], [pair[1] for pair in drawn]
        observations = self.core.reset(conditions, batches)
        every = np.ones(self.num_envs, np.bool_)
        info = self._info() | {"batch": np.array(batches), "_batch": every}
        return observations, info

    def _info(self) -> dict[str, Any]:
        conditions = np.array([str(condition) for condition in self.core.conditions], object)
        every = np.ones(self.num_envs, np.bool_)
        return {
            "condition": conditions,
            "_condition": every,
            "action_mask": self.action_masks(),
            "_action_mask": every.copy(),
        }

    def _seed(self, seed: int | Sequence[int | None] | None) -> None:
        if seed is None:
            return
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else list(seed)
        if len(seeds) != self.num_envs:
            raise SettingError(f"seed: got {len(seeds)}, allowed are {self.num_envs}, one for each")
        for number, own in enumerate(seeds):
            if own is not None:
                self._generators[number] = seeding.np_random(own)[0]
