"""How episodes are played: one at a time, or many in step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dqmq_env.envs.episodes import Finished, Starts
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import LayerBits

Observation = NDArray[np.float32]


class EpisodeBatch(ABC):
    """N episodes that take the same decision, each in its own way, at the same time."""

    @abstractmethod
    def reset(self, starts: Starts) -> NDArray[np.float32]:
        """Begin N episodes; return observations of shape (N, features)."""

    @abstractmethod
    def masks(self) -> NDArray[np.bool_]:
        """Which indices leave the budget reachable, shape (N, K); all where nothing is decided."""

    @abstractmethod
    def decide(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], Finished | None]:
        """Take decisions in each episode.

        Args:
            actions: indices into the candidates, shape (N, decisions to take), each 0 to K - 1; an
                index that would make the budget unreachable is lowered to the nearest that does
                not.

        Returns:
            Observations after the last of these decisions (N, features), rewards (N,), and what is
            known at the end where this is the end.

        Raises:
            RuntimeError: the episodes have ended, or not begun.
        """


class Episode(ABC):
    """One episode after another."""

    @property
    @abstractmethod
    def spent(self) -> float:
        """What is settled so far of the budgeted cost, as a fraction of the whole."""

    @property
    @abstractmethod
    def images(self) -> NDArray[np.uint8]:
        """The first images, shape (n, H, W, C)."""

    @property
    @abstractmethod
    def bits(self) -> tuple[LayerBits | None, ...]:
        """Bits of every layer in forward order, ``None`` where undecided."""

    @abstractmethod
    def begin(self, condition: Condition, batch: int) -> Observation:
        """Begin an episode; return its first observation, shape (features,)."""

    @abstractmethod
    def mask(self) -> NDArray[np.bool_]:
        """Which indices leave the budget reachable, shape (K,); all where nothing is decided."""

    @abstractmethod
    def decide(self, actions: Sequence[int]) -> tuple[Observation, float, dict[str, Any] | None]:
        """Take decisions; see :meth:`EpisodeBatch.decide`.

        Returns:
            Observation, reward, and what ``info`` says of the end where this is the end.

        Raises:
            RuntimeError: the episode has ended, or not begun.
        """


def refuse_to_step() -> RuntimeError:
    """What is raised for a decision that nobody waits for."""
    return RuntimeError("step: the episode has ended or not begun; call reset")
