"""The environment of one episode at a time."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dqmq_env.envs.actions import action_form
from dqmq_env.envs.core import Core
from dqmq_env.envs.draws import draw_episode
from dqmq_env.envs.play import Observation
from dqmq_env.envs.players import episode_of
from dqmq_env.envs.render import Frame, draw_rgb, draw_text
from dqmq_env.envs.window import Window
from dqmq_env.errors import SettingError
from dqmq_env.problem.protocol import Problem
from dqmq_env.task.task import Task


class BitWidthEnv(gym.Env[Observation, Any]):
    """Decide the bits of the layers of any network, for images of the quality at hand.

    ## Description

    An episode is about a batch of ``search`` images of a problem, or about a single one, under one
    condition. Each step gives one layer its bits, for weights and activations jointly, in forward
    order; where the task has them decided in turn, each layer takes two steps. What has a single
    candidate is passed by. After the last decision the accuracy on the batch is measured.

    ## Action space

    With ``K`` candidates and ``D`` decisions: ``Discrete(K)``, an index into the
    candidates; with ``actions="continuous"`` ``Box(-1, 1, (1,))``, mapped to bits as HAQ does; with
    ``actions="one-shot"`` ``MultiDiscrete([K] * D)``, the whole assignment in one step.

    ## Observation space

    ``Box(0, 1, (24 + K,), float32)``; ``env.unwrapped.core.observer.layout.names`` names every
    feature. In order: six of the quality of the images, four of the activation that the layer is
    about to receive, nine of the layer, K relative errors of its weights (or of its activation, where
    the decision is about that alone) at the candidates, five of progress. The page of ``DQMQ-ResNet-v0`` explains each.

    ## Reward

    That of the task at the end of the episode, by default ``0.8 * accuracy + 0.2 * (1 - BOPs)``,
    BOPs as a fraction of those at 8 bits; 0 before, unless the task has a potential.

    ## Start and end

    ``reset`` draws a condition and a batch, or takes ``options={"condition": ..., "batch": ...}``.
    The episode terminates after the last decision and is never truncated.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array", "ansi"], "render_fps": 4}

    def __init__(
        self,
        problem: Problem,
        task: Task | None = None,
        actions: str = "discrete",
        render_mode: str | None = None,
    ) -> None:
        """Prepare the environment; nothing is computed yet.

        Args:
            problem: the network, its images, its candidate bits.
            task: reward and budget.
            actions: ``discrete``, ``continuous`` or ``one-shot``.
            render_mode: ``None``, ``"human"``, ``"rgb_array"`` or ``"ansi"``.

        Raises:
            SettingError: an unknown form of actions or render mode.
            BudgetError: no assignment meets the budget.
        """
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise SettingError(f"render_mode: got {render_mode!r}, allowed are None and {modes}")
        self.render_mode = render_mode
        self.core = Core(problem, task or Task())
        self._episode = episode_of(self.core)
        self._form = action_form(actions, self.core.candidates, self.core.decisions)
        self.observation_space = self.core.observation_space
        self.action_space = self._form.space
        self._condition: str | None = None
        self._accuracy: float | None = None
        self._window = Window("dqmq_env")

    @property
    def problem(self) -> Problem:
        """The problem that the environment is about."""
        return self.core.problem

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a condition and a batch of ``search`` images.

        Args:
            seed: seeds the environment's generator; without it the generator goes on.
            options: ``{"condition": "gaussian_noise/3"}`` and ``{"batch": 2}`` fix what is drawn.

        Raises:
            ConditionError: there is no such condition.
            SettingError: an unknown option, or a batch that does not exist.
        """
        super().reset(seed=seed)
        condition, batch = draw_episode(self.core.problem, self.np_random, options)
        observation = self._episode.begin(condition, batch)
        self._condition, self._accuracy = str(condition), None
        if self.render_mode == "human":
            self.render()
        return observation, {"condition": self._condition, "batch": batch}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Give the layer at hand its bits; all layers at once in the one-shot form.

        Raises:
            ActionError: the action is not in the action space.
        """
        observation, reward, end = self._episode.decide(self._form.of_one(action))
        info: dict[str, Any] = {"condition": self._condition}
        if end is not None:
            info |= end
            self._accuracy = end["accuracy"]
        if self.render_mode == "human":
            self.render()
        return observation, reward, end is not None, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Which indices leave the budget reachable, shape (K,); one-shot: (D * K,)."""
        return self._form.mask(self.core, self._episode)

    def render(self) -> Any:
        """The bits decided so far, as text, as a picture (H, W, 3) of uint8, or in a window.

        Raises:
            RuntimeError: the environment was made without a render mode, or not reset yet.
        """
        if self.render_mode is None:
            modes = self.metadata["render_modes"]
            raise RuntimeError(f"render: make the environment with a render_mode of {modes}")
        if self._condition is None:
            raise RuntimeError("render: call reset first")
        frame = self._frame()
        if self.render_mode == "ansi":
            return draw_text(frame)
        picture = draw_rgb(frame)
        if self.render_mode == "rgb_array":
            return picture
        self._window.show(picture)
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        self._window.close()

    def __getstate__(self) -> dict[str, Any]:
        """All but the window, which is opened again by the next rendering."""
        return {**self.__dict__, "_window": Window("dqmq_env")}

    def _frame(self) -> Frame:
        assert self._condition is not None
        budget = self.core.task.budget
        return Frame(
            layers=tuple(spec.name for spec in self.problem.layers),
            bits=self._episode.bits,
            condition=self._condition,
            cost_name=budget.cost.name,
            cost_fraction=self._episode.spent,
            budget=budget.fraction if budget.fraction < 1 else None,
            accuracy=self._accuracy,
            images=self._episode.images,
        )
