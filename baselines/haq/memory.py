"""HAQ's replay memory."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Transitions(NamedTuple):
    """A batch of what was remembered, all float32.

    Attributes:
        states: observations, shape (N, features).
        actions: in [0, 1], shape (N, 1).
        rewards: shape (N, 1).
        next_states: without meaning after the end of an episode, shape (N, features).
        going_on: 0 where the episode ended, else 1, shape (N, 1).
    """

    states: Tensor
    actions: Tensor
    rewards: Tensor
    next_states: Tensor
    going_on: Tensor


class Memory:
    """The latest entries, in order: the next state of each is the state of the entry after it.

    The newest one, which has none after it, is not drawn. Nor are entries that only fill the place
    after the end of an episode, but for the oldest entry of all, as in HAQ's code.

    Args:
        capacity: number of entries, 2 or more; the oldest make room.
        features: length of a state.
    """

    def __init__(self, capacity: int, features: int) -> None:
        self._capacity = capacity
        self._states = np.zeros((capacity, features), np.float32)
        # action, reward, whether the episode goes on
        self._rest = np.zeros((capacity, 3), np.float32)
        self._filler = np.zeros(capacity, np.bool_)
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, self._capacity)

    def add(
        self,
        state: NDArray[np.float32],
        action: float,
        reward: float,
        last: bool,
        filler: bool = False,
    ) -> None:
        """Remember a transition.

        Args:
            state: shape (features,).
            action: in [0, 1].
            reward: of this transition.
            last: whether it ends its episode.
            filler: whether it only fills the place after the last transition.
        """
        slot = self._added % self._capacity
        self._states[slot] = state
        self._rest[slot] = action, reward, not last
        self._filler[slot] = filler
        self._added += 1

    def sample(self, count: int, generator: np.random.Generator) -> Transitions:
        """Some transitions, each at most once where there are enough of them.

        Fillers are exchanged for others, which may then be there twice.

        Args:
            count: how many.
            generator: draws them; there must be two entries or more.
        """
        known = len(self) - 1
        ages = generator.choice(known, count, replace=known < count)
        while (wrong := self._filler[self._slots(ages)] & (ages > 0)).any():
            ages[wrong] = generator.integers(known, size=int(wrong.sum()))
        slots = self._slots(ages)
        states = torch.from_numpy(self._states[slots])
        rest = torch.from_numpy(self._rest[slots])
        following = torch.from_numpy(self._states[(slots + 1) % self._capacity])
        return Transitions(states, rest[:, :1], rest[:, 1:2], following, rest[:, 2:])

    def _slots(self, ages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where entries are, counted from the oldest."""
        return np.asarray((self._added - len(self) + ages) % self._capacity)
