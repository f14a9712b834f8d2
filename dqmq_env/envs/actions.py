"""The three forms of an action, all of them indices into the candidate bits in the end."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dqmq_env.envs.core import Core
from dqmq_env.envs.play import Episode, EpisodeBatch
from dqmq_env.errors import ActionError, SettingError

Indices = NDArray[np.int64]


class ActionForm(ABC):
    """How agents say which bits they want.

    Attributes:
        space: of one episode's action.
    """

    space: gym.Space[Any]

    @abstractmethod
    def indices(self, actions: object, count: int) -> Indices:
        """Indices into the candidates, shape (count, decisions that a step takes).

        Args:
            actions: of ``count`` episodes, stacked.
            count: number of episodes.

        Raises:
            ActionError: wrong shape or type, NaN, or out of range.
        """

    def of_one(self, action: object) -> Sequence[int]:
        """The indices of a single episode; raises as :meth:`indices` does."""
        row: list[int] = self.indices(np.asarray(action)[None], 1)[0].tolist()
        return row

    def mask(self, core: Core, episode: Episode) -> NDArray[np.bool_]:
        """Which indices leave the budget reachable, as sb3-contrib's MaskablePPO expects it.

        Shape (K,), or (D * K,) where a step takes all decisions.
        """
        return episode.mask()

    def masks(self, core: Core, batch: EpisodeBatch, count: int) -> NDArray[np.bool_]:
        """The same of ``count`` episodes, shape (N, K) or (N, D * K)."""
        return batch.masks()


class DiscreteActions(ActionForm):
    """An index into the candidates for the layer at hand: ``Discrete(K)``."""

    def __init__(self, candidates: Sequence[int], decisions: int) -> None:
        self._count = len(candidates)
        self.space = gym.spaces.Discrete(self._count)

    def indices(self, actions: object, count: int) -> Indices:
        """See :class:`ActionForm`."""
        return _integers(actions, (count,), self._count)[:, None]

    def of_one(self, action: object) -> Sequence[int]:
        """See :class:`ActionForm`."""
        # nearly all actions are one of these, and nothing else takes as little time
        if (type(action) is int or type(action) is np.int64) and 0 <= action < self._count:
            return (int(action),)
        return super().of_one(action)


class OneShotActions(ActionForm):
    """Indices for all decisions at once: ``MultiDiscrete([K] * D)``; an episode is one step."""

    def __init__(self, candidates: Sequence[int], decisions: int) -> None:
        self._count, self._decisions = len(candidates), decisions
        self.space = gym.spaces.MultiDiscrete([self._count] * decisions)

    def indices(self, actions: object, count: int) -> Indices:
        """See :class:`ActionForm`."""
        return _integers(actions, (count, self._decisions), self._count)

    def mask(self, core: Core, episode: Episode) -> NDArray[np.bool_]:
        """See :class:`ActionForm`."""
        return core.mask_of_all()

    def masks(self, core: Core, batch: EpisodeBatch, count: int) -> NDArray[np.bool_]:
        """See :class:`ActionForm`."""
        return np.tile(core.mask_of_all(), (count, 1))


class ContinuousActions(ActionForm):
    """A number in [-1, 1] for the layer at hand, mapped to bits as HAQ does: ``Box(-1, 1, (1,))``.

    With ``a`` the action moved to [0, 1], ``bits = round((max - min + 1) * a + min - 0.5)``, halves
    to even, cut to the range of the candidates (Wang et al. 2019, and lib/env/linear_quantize_env.py
    of mit-han-lab/haq), then the nearest candidate, the lower of two.
    """

    def __init__(self, candidates: Sequence[int], decisions: int) -> None:
        self._candidates = np.array(candidates)
        self.space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def indices(self, actions: object, count: int) -> Indices:
        """See :class:`ActionForm`."""
        array = np.asarray(actions)
        if array.shape != (count, 1) or array.dtype.kind not in "fiu":
            raise ActionError(f"action: got shape {array.shape[1:]}, allowed is one number, (1,)")
        numbers = array[:, 0].astype(np.float64)
        if not (np.abs(numbers) <= 1).all():
            raise ActionError(f"action: got {numbers}, allowed are -1 to 1")
        low, high = int(self._candidates[0]), int(self._candidates[-1])
        share = (numbers + 1) / 2
        bits = np.clip(np.rint((high - low + 1) * share + low - 0.5), low, high)
        distances = np.abs(self._candidates[None, :] - bits[:, None])
        return np.asarray(distances.argmin(1), np.int64)[:, None]


_FORMS: dict[str, type[DiscreteActions] | type[OneShotActions] | type[ContinuousActions]] = {
    "discrete": DiscreteActions,
    "continuous": ContinuousActions,
    "one-shot": OneShotActions,
}


def action_form(name: str, candidates: Sequence[int], decisions: int) -> ActionForm:
    """The form of that name: ``discrete``, ``continuous`` or ``one-shot``.

    Raises:
        SettingError: there is no such form.
    """
    if name not in _FORMS:
        raise SettingError(f"actions: got {name!r}, allowed are {list(_FORMS)}")
    return _FORMS[name](candidates, decisions)


def _integers(actions: object, shape: tuple[int, ...], count: int) -> Indices:
    array = np.asarray(actions)
    if array.shape != shape or array.dtype.kind not in "iu":
        raise ActionError(
            f"action: got {array.dtype} of shape {array.shape[1:]}, allowed are integers of shape "
            f"{shape[1:]} from 0 to {count - 1}"
        )
    if array.size and not (array.min() >= 0 and array.max() < count):
        raise ActionError(f"action: got {array.tolist()}, allowed are 0 to {count - 1}")
    return array.astype(np.int64)
