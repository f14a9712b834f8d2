"""What the benchmark asks of a searcher, and what every agent can be asked for; free of torch."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dqmq_env.search.meter import MeteredProblem
from dqmq_env.task.task import Task


class Agent(Protocol):
    """Takes the decisions of episodes; in the shape of Stable-Baselines3's algorithms."""

    @property
    def actions(self) -> str:
        """The form of its actions: ``discrete``, ``continuous`` or ``one-shot``."""
        ...

    @property
    def masked(self) -> bool:
        """Whether ``predict`` takes ``action_masks``, as sb3-contrib's MaskablePPO does."""
        ...

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Actions for observations of shape (features,) or (N, features), and the next state.

        Args:
            observation: one, or one for each of N episodes.
            state: what the last call returned; ``None`` at the start of an episode.
            episode_start: which episodes have just begun, shape (N,).
            deterministic: ``False`` lets agents that can do so draw their actions.
        """
        ...


class Searcher(Protocol):
    """A way to look for bits: what a baseline is, and what joins the benchmark.

    Its settings are fields of its own; JSON can hold each of them.
    """

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> Agent:
        """Look for the bits that the task rewards most.

        Args:
            problem: answers, and counts what it is asked.
            task: reward, budget and decisions.
            evaluations: how many batches may be evaluated; ``problem`` refuses more.
            seed: equal seeds give equal agents.
        """
        ...
