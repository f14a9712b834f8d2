"""Wrappers for ablations and for several objectives."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from dqmq_env.envs.play import Observation
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import SettingError
from dqmq_env.quantization.assignment import BitAssignment


class HideQuality(gym.ObservationWrapper[Observation, Any, Observation], RecordConstructorArgs):
    """Sets the quality part of the observation to zero: what is a policy worth that cannot see it?

    The activation statistics still carry traces of the quality; see ``hide_activation``.

    Args:
        env: an environment of the suite.
        hide_activation: set these to zero as well, which leaves nothing that depends on the images.
    """

    def __init__(self, env: gym.Env[Observation, Any], hide_activation: bool = False) -> None:
        RecordConstructorArgs.__init__(self, hide_activation=hide_activation)
        gym.ObservationWrapper.__init__(self, env)
        layout = _inner(env).core.observer.layout
        self._hidden = [layout.part("quality")]
        if hide_activation:
            self._hidden.append(layout.part("activation"))

    def observation(self, observation: Observation) -> Observation:
        """The observation with zeros where something is hidden."""
        shown = observation.copy()
        for part in self._hidden:
            shown[part] = 0
        return shown


class MultiObjective(gym.Wrapper[Observation, Any, Observation, Any], RecordConstructorArgs):
    """Gives the reward as the vector (accuracy, 1 - cost), as MO-Gymnasium's agents expect it.

    Both are 0 until the last step and lie in [0, 1]; the cost is the one of the task's budget, as a
    fraction of that at 8 bits, cut at 1. ``reward_space`` says so.

    Args:
        env: an environment of the suite.
    """

    def __init__(self, env: gym.Env[Observation, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self._cost = _inner(env).core.task.budget.cost.name
        self.reward_space = gym.spaces.Box(0.0, 1.0, (2,), np.float32)

    def step(self, action: Any) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """Take a step; the reward is a vector of shape (2,), float32."""
        observation, _, terminated, truncated, info = self.env.step(action)
        reward: NDArray[np.float32] = np.zeros(2, np.float32)
        if terminated:
            reward[:] = info["accuracy"], 1 - min(info["costs"][self._cost], 1)
        return observation, reward, terminated, truncated, info


class ReportTest(gym.Wrapper[Observation, Any, Observation, Any], RecordConstructorArgs):
    """Adds accuracy and loss on the ``test`` split to the end's ``info``: for the final report.

    ``info["test"]`` is ``{"accuracy": ..., "loss": ...}`` of the executed assignment under the
    condition of the episode. Nothing should be trained or chosen behind this wrapper.

    Args:
        env: an environment of the suite over a problem with a ``test`` split.
    """

    def __init__(self, env: gym.Env[Observation, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self._problem = _inner(env).problem

    def step(self, action: Any) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated:
            assignment = BitAssignment(info["assignment"])
            outcome = self._problem.evaluate(assignment, info["condition"], "test")
            test = {"accuracy": float(outcome.accuracy[0]), "loss": float(outcome.loss[0])}
            info = {**info, "test": test}
        return observation, reward, terminated, truncated, info


def _inner(env: gym.Env[Observation, Any]) -> BitWidthEnv:
    inner = env.unwrapped
    if not isinstance(inner, BitWidthEnv):
        raise SettingError(f"env: got {inner!r}, allowed are environments of this suite")
    return inner
