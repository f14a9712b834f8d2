"""What is left of a Stable-Baselines3 algorithm when it has learned: its networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from baselines.sb3.algorithms import algorithm_of
from dqmq_env.errors import CheckpointError
from dqmq_env.training.state import load_state, save_state

SCHEMA = "dqmq-sb3-agent/1"


class SB3Agent:
    """Takes decisions with the networks of an algorithm; holds no environment and no problem.

    Args:
        algorithm: name of the algorithm.
        policy: its networks.
        networks: what these were made with.

    Attributes:
        algorithm: name of the algorithm.
        policy: its networks, a :class:`stable_baselines3.common.policies.BasePolicy`.
        actions: form of its actions.
        masked: whether ``predict`` takes ``action_masks``.
    """

    def __init__(self, algorithm: str, policy: Any, networks: Mapping[str, Any]) -> None:
        own = algorithm_of(algorithm)
        self.algorithm = algorithm
        self.policy = policy
        self.actions = own.actions
        self.masked = own.masked
        self._networks = dict(networks)

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
        action_masks: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[Any], Any]:
        """See :class:`~dqmq_env.search.protocol.Agent`.

        Args:
            observation: one, or one for each of N episodes.
            state: what the last call returned.
            episode_start: which episodes have just begun, shape (N,).
            deterministic: ``False`` draws the actions, where the algorithm learns a distribution.
            action_masks: which actions are allowed, where the agent is ``masked``.
        """
        masks = {"action_masks": action_masks} if self.masked else {}
        actions, state = self.policy.predict(
            observation, state, episode_start, deterministic, **masks
        )
        return actions, state

    def save(self, path: Path) -> None:
        """Write the networks, whole or not at all; nothing is pickled."""
        space = self.policy.action_space
        save_state(
            path,
            {
                "schema": SCHEMA,
                "algorithm": self.algorithm,
                "networks": self._networks,
                "features": self.policy.observation_space.shape[0],
                "candidates": int(space.n) if isinstance(space, gym.spaces.Discrete) else None,
                "policy": self.policy.state_dict(),
            },
        )

    @classmethod
    def load(cls, path: Path) -> "SB3Agent":
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: the file is missing, damaged or foreign.
        """
        state = load_state(path)
        if state.get("schema") != SCHEMA:
            raise CheckpointError(f"path: {path} is not a {SCHEMA} file")
        features, candidates = state["features"], state["candidates"]
        # a network draws its first weights, and the process should not notice
        with torch.random.fork_rng(devices=[]):
            policy = algorithm_of(state["algorithm"]).networks(
                gym.spaces.Box(0.0, 1.0, (features,), np.float32),
                gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
                if candidates is None
                else gym.spaces.Discrete(candidates),
                lambda _: 0.0,
                **state["networks"],
            )
        policy.load_state_dict(state["policy"])
        return cls(state["algorithm"], policy, state["networks"])
