"""Episodes of a table of all assignments, looked up in its tree."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dqmq_env.envs.episodes import Finished, Starts, figures_of
from dqmq_env.envs.play import Episode, EpisodeBatch, Observation, refuse_to_step
from dqmq_env.envs.tree import TaskTree
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import LayerBits


class TreeBatch(EpisodeBatch):
    """N episodes in step.

    Args:
        tree: of the problem and the task.
        count: N.
    """

    def __init__(self, tree: TaskTree, count: int) -> None:
        self._tree = tree
        self._observations = tree.observations.reshape(-1, tree.observations.shape[2])
        self._rows = np.zeros(count, np.int64)
        self._begins = np.zeros(count, np.int64)
        # the end of an episode, until one is begun
        self._nodes = np.full(count, tree.first_leaf)

    def reset(self, starts: Starts) -> NDArray[np.float32]:
        """See :class:`~dqmq_env.envs.play.EpisodeBatch`."""
        tree = self._tree
        rows = np.zeros(len(starts.conditions), np.int64)
        for place in np.flatnonzero(np.bincount(starts.rows)):
            rows[place] = tree.condition(starts.conditions[place])
        self._rows = rows[starts.rows]
        self._begins = self._rows * tree.nodes
        self._nodes = np.zeros(len(self._rows), np.int64)
        return self._observe()

    def masks(self) -> NDArray[np.bool_]:
        """See :class:`~dqmq_env.envs.play.EpisodeBatch`."""
        return np.asarray(self._tree.masks.take(self._nodes, 0))

    def decide(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], Finished | None]:
        """See :class:`~dqmq_env.envs.play.EpisodeBatch`."""
        tree, before = self._tree, self._nodes
        if before[0] >= tree.first_leaf:
            raise refuse_to_step()
        nodes = before
        for column in actions.T:
            nodes = nodes * tree.candidates + (1 + column)
        self._nodes = nodes
        potential = tree.potential.take(before)
        if nodes[0] < tree.first_leaf:
            return self._observe(), tree.potential.take(nodes) - potential, None
        rewards = tree.rewards(self._rows, nodes) - potential
        return self._observe(), rewards, tree.finished(self._rows, nodes)

    def _observe(self) -> NDArray[np.float32]:
        return np.asarray(self._observations.take(self._begins + self._nodes, 0))


class TreeEpisode(Episode):
    """One episode at a time.

    Args:
        tree: of the problem and the task.
    """

    def __init__(self, tree: TaskTree) -> None:
        self._tree = tree
        self._row = 0
        self._observations = tree.observations[0]
        self._node = tree.first_leaf

    @property
    def spent(self) -> float:
        """See :class:`~dqmq_env.envs.play.Episode`."""
        return float(self._tree.spent[self._node])

    @property
    def images(self) -> NDArray[np.uint8]:
        """See :class:`~dqmq_env.envs.play.Episode`."""
        return self._tree.images(self._row)

    @property
    def bits(self) -> tuple[LayerBits | None, ...]:
        """See :class:`~dqmq_env.envs.play.Episode`."""
        return self._tree.bits(self._node)

    def begin(self, condition: Condition, batch: int) -> Observation:
        """See :class:`~dqmq_env.envs.play.Episode`."""
        self._row = self._tree.condition(condition)
        self._observations = self._tree.observations[self._row]
        self._node = 0
        observation: Observation = self._observations[0].copy()
        return observation

    def mask(self) -> NDArray[np.bool_]:
        """See :class:`~dqmq_env.envs.play.Episode`."""
        mask: NDArray[np.bool_] = self._tree.masks[self._node].copy()
        return mask

    def decide(self, actions: Sequence[int]) -> tuple[Observation, float, dict[str, Any] | None]:
        """See :class:`~dqmq_env.envs.play.Episode`."""
        tree, before = self._tree, self._node
        if before >= tree.first_leaf:
            raise refuse_to_step()
        node = before
        for action in actions:
            node = node * tree.candidates + 1 + action
        self._node = node
        observation = self._observations[node].copy()
        potential = tree.potential.item(before)
        if node < tree.first_leaf:
            return observation, tree.potential.item(node) - potential, None
        rows, nodes = np.array([self._row]), np.array([node])
        reward = tree.rewards(rows, nodes).item() - potential
        return observation, reward, figures_of(tree.finished(rows, nodes).figures(), 0)
