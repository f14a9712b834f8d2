"""The environment of one episode at a time: a thin view of the batched core."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dqmq_env.envs.core import BatchedCore, Task
from dqmq_env.envs.render import Frame, draw_rgb, draw_text
from dqmq_env.errors import ActionError, SettingError
from dqmq_env.problem.protocol import Problem
from dqmq_env.quality.condition import Condition

Observation = NDArray[np.float32]


class BitWidthEnv(gym.Env[Observation, np.int64]):
    """Decide the bits of a network's layers, one layer a step, for a batch of images.

    Args:
        problem: the network, its images, its candidate bits.
        task: reward and budget.
        render_mode: ``None``, ``"rgb_array"`` or ``"ansi"``.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}

    def __init__(
        self, problem: Problem, task: Task | None = None, render_mode: str | None = None
    ) -> None:
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise SettingError(f"render_mode: got {render_mode!r}, allowed are None and {modes}")
        self.render_mode = render_mode
        self.core = BatchedCore(problem, task or Task(), 1)
        features = len(self.core.observer.layout.names)
        self.observation_space = gym.spaces.Box(0.0, 1.0, (features,), np.float32)
        self.action_space = gym.spaces.Discrete(len(self.core.candidates))
        self._accuracy: float | None = None

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
        # both are drawn even where an option overrides them, so that options leave later draws alone
        condition = self.problem.mixture.sample(1, self.np_random)[0]
        batch = int(self.np_random.integers(self.problem.batches))
        options = dict(options or {})
        condition = Condition.parse(options.pop("condition", condition))
        batch = options.pop("batch", batch)
        if options:
            raise SettingError(
                f"options: got {sorted(options)}, allowed are 'condition' and 'batch'"
            )
        if not isinstance(batch, int) or not 0 <= batch < self.problem.batches:
            raise SettingError(
                f"options['batch']: got {batch!r}, allowed are 0 to {self.problem.batches - 1}"
            )
        self._accuracy = None
        observation = self.core.reset([condition], [batch])[0]
        return observation, {"condition": str(condition), "batch": batch}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Give the layer at hand the candidate bits of that index.

        Raises:
            ActionError: the action is not an integer from 0 to K - 1.
        """
        index = _index(action, len(self.core.candidates))
        observation = self.core.step(np.array([index]))[0]
        info: dict[str, Any] = {"condition": str(self.core.conditions[0])}
        if self.core.running:
            return observation, 0.0, False, False, info
        rewards, finished = self.core.finish()
        self._accuracy = float(finished.outcome.accuracy[0])
        info |= {
            "assignment": {name: list(bits) for name, bits in finished.assignments[0].items()},
            "accuracy": self._accuracy,
            "loss": float(finished.outcome.loss[0]),
            "costs": {name: float(values[0]) for name, values in finished.costs.items()},
            "lowered": int(finished.lowered[0]),
        }
        return observation, float(rewards[0]), True, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions leave the budget reachable, shape (K,); for MaskablePPO."""
        return np.asarray(self.core.masks()[0])

    def render(self) -> Any:
        """The bits decided so far, as text or as a picture (H, W, 3) of uint8.

        Raises:
            RuntimeError: the environment was made without a render mode, or not reset yet.
        """
        if self.render_mode is None:
            raise RuntimeError(
                "render: make the environment with render_mode='rgb_array' or 'ansi'"
            )
        if not self.core.conditions:
            raise RuntimeError("render: call reset first")
        frame = self._frame()
        return draw_text(frame) if self.render_mode == "ansi" else draw_rgb(frame)

    def _frame(self) -> Frame:
        budget = self.core.task.budget
        return Frame(
            layers=tuple(spec.name for spec in self.problem.specs),
            bits=self.core.bits(0),
            max_bits=8,
            condition=str(self.core.conditions[0]),
            cost_name=budget.cost.name,
            cost_fraction=float(self.core.spent[0]),
            budget=budget.fraction if budget.fraction < 1 else None,
            accuracy=self._accuracy,
            images=self.core.images[0],
        )


def _index(action: object, count: int) -> int:
    array = np.asarray(action)
    if array.shape != () or not np.issubdtype(array.dtype, np.integer):
        raise ActionError(f"action: got {action!r}, allowed is one integer from 0 to {count - 1}")
    index = int(array)
    if not 0 <= index < count:
        raise ActionError(f"action: got {index}, allowed are 0 to {count - 1}")
    return index
