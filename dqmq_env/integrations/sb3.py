"""Stable-Baselines3 on the suite's vector environments, without subprocesses."""

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvObs, VecEnvStepReturn

from dqmq_env.errors import SettingError


class VecEnvAdapter(VecEnv):
    """Shows a Gymnasium vector environment to Stable-Baselines3 as one of its own.

    ``model = PPO("MlpPolicy", VecEnvAdapter(gym.make_vec("dqmq_env:DQMQ-ResNet-v0", 16)))``

    The last observation of an episode is in ``infos[i]["terminal_observation"]``, its return and
    length in ``infos[i]["episode"]``, what the environment says of its end beside them; infos of
    steps that end nothing are empty. ``env_method("action_masks")`` serves MaskablePPO.

    Args:
        env: a vector environment that resets in the step that ends an episode (``SAME_STEP``).

    Raises:
        SettingError: the environment resets in another way.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise SettingError(f"env: its autoreset mode is {mode}, allowed is SAME_STEP")
        # the base class asks for attributes of the environment at once
        self.env: Any = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions: Any = None
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, np.int64)

    def reset(self) -> VecEnvObs:
        """Begin all episodes, with the seeds and options set before, which are then used up."""
        options = next((option for option in self._options if option), None)
        seed = self._seeds if any(own is not None for own in self._seeds) else None
        observations, infos = self.env.reset(seed=seed, options=options)
        self.reset_infos = self._rows(infos)
        self._reset_seeds()
        self._reset_options()
        self._returns[:], self._lengths[:] = 0, 0
        return np.array(observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step."""
        observations, rewards, terminated, truncated, info = self.env.step(self._actions)
        self._returns += rewards
        self._lengths += 1
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if dones.any():
            rows = self._rows(info.get("final_info", {}))
            for number in np.flatnonzero(dones):
                infos[number] = {
                    **rows[number],
                    "terminal_observation": np.array(info["final_obs"][number]),
                    "TimeLimit.truncated": bool(truncated[number] and not terminated[number]),
                    "episode": {
                        "r": float(self._returns[number]),
                        "l": int(self._lengths[number]),
                    },
                }
                self._returns[number], self._lengths[number] = 0, 0
        return np.array(observations), rewards.astype(np.float32), dones.copy(), infos

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute of the vector environment, once for each episode asked for."""
        value = getattr(self.env, attr_name)
        return [value for _ in self._indices(indices)]

    def has_attr(self, attr_name: str) -> bool:
        """Whether the vector environment has the attribute."""
        return hasattr(self.env, attr_name)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the vector environment, for all episodes at once.

        Raises:
            SettingError: ``indices`` leaves some episodes out.
        """
        if len(self._indices(indices)) != self.num_envs:
            raise SettingError("indices: all episodes share their attributes, allowed is None")
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method that answers for all episodes; return the answers of those asked for."""
        answers = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [answers[number] for number in self._indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None
    ) -> list[bool]:
        """``False`` for each episode asked for: the vector environment has no wrappers inside."""
        return [False for _ in self._indices(indices)]

    def _indices(self, indices: int | Iterable[int] | None) -> Sequence[int]:
        return list(self._get_indices(indices))

    def _rows(self, infos: dict[str, Any]) -> list[dict[str, Any]]:
        """Vector infos as one dict of plain values for each episode, without the masks."""
        columns = {
            key: self._rows(values) if isinstance(values, dict) else values.tolist()
            for key, values in infos.items()
            if not key.startswith("_")
        }
        if not columns:
            return [{} for _ in range(self.num_envs)]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
