"""All that can happen under a task, worked out beforehand for a table of all assignments."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dqmq_env.envs.core import Core
from dqmq_env.envs.episodes import Finished, Starts
from dqmq_env.envs.live import LiveBatch
from dqmq_env.problem.protocol import Outcome
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.task.task import Task


class TaskTree:
    """Every state that sequences of actions lead to, for each condition of a table.

    With K candidates and D decisions, node 0 is the beginning and action ``a`` leads from node
    ``n`` to node ``K * n + 1 + a``; the leaves are the last ``K ** D`` nodes. Nodes are told apart
    by actions, not by the bits that a budget makes of them, so that everything at a node follows
    from the node alone. A condition is worked out when it first occurs, by playing every sequence
    of actions at once.

    Args:
        problem: the table.
        task: reward and budget.

    Attributes:
        candidates: K.
        nodes: their number.
        first_leaf: the number of nodes that are not leaves.
        observations: shape (conditions of the table, nodes, features).
        masks: shape (nodes, K).
        spent: cost so far, as a fraction of the whole at 8 bits, shape (nodes,).
        potential: of the task at each node, shape (nodes,).
    """

    def __init__(self, problem: TableProblem, task: Task) -> None:
        self._problem, self._task = problem, task
        self._core = Core(problem, task)
        self.candidates, decisions = len(self._core.candidates), self._core.decisions
        levels = self.candidates ** np.arange(decisions + 1)
        leaves = int(levels[-1])
        self._levels = levels
        self.nodes = int(levels.sum())
        self.first_leaf = self.nodes - leaves
        conditions = len(problem.table.card.conditions)
        (features,) = self._core.observation_space.shape
        self.observations = np.empty((conditions, self.nodes, features), np.float32)
        self.masks = np.ones((self.nodes, self.candidates), np.bool_)
        self.spent = np.zeros(self.nodes)
        self.potential = np.zeros(self.nodes)
        self._settled = [0] * (decisions + 1)
        self._rewards, self._regrets, self._accuracy, self._loss = (
            np.empty(conditions * leaves) for _ in range(4)
        )
        self._end: Finished | None = None
        self._known: set[int] = set()

    def condition(self, condition: Condition) -> int:
        """The row of a condition, which is worked out where it has not occurred before.

        Raises:
            TableError: it is not in the table.
        """
        row = self._problem.row(condition)
        if row not in self._known:
            self._work_out(row, condition)
            self._known.add(row)
        return row

    def finished(self, rows: NDArray[np.int64], nodes: NDArray[np.int64]) -> Finished:
        """What is known at leaves.

        Args:
            rows: of conditions, shape (N,).
            nodes: leaves, shape (N,).
        """
        assert self._end is not None
        leaves = nodes - self.first_leaf
        places = rows * len(self._end.bits) + leaves
        return Finished(
            self._end.layers,
            self._end.bits.take(leaves, 0),
            Outcome(self._accuracy.take(places), self._loss.take(places)),
            {name: costs.take(leaves) for name, costs in self._end.costs.items()},
            self._end.lowered.take(leaves),
            {"regret": self._regrets.take(places)},
        )

    def rewards(self, rows: NDArray[np.int64], nodes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Rewards at leaves as if potentials had not changed before, shape (N,)."""
        places = rows * (self.nodes - self.first_leaf) + (nodes - self.first_leaf)
        rewards: NDArray[np.float64] = self._rewards.take(places) + self.potential[0]
        return rewards

    def bits(self, node: int) -> tuple[LayerBits | None, ...]:
        """Of each layer at a node, ``None`` where undecided."""
        assert self._end is not None
        decisions = int(np.searchsorted(self._levels.cumsum(), node, side="right"))
        while node < self.first_leaf:
            node = node * self.candidates + 1
        rows = self._end.bits[node - self.first_leaf].tolist()
        settled = self._settled[decisions]
        decided = [LayerBits(weight, activation) for weight, activation in rows[:settled]]
        return (*decided, *[None] * (len(rows) - settled))

    def images(self, row: int) -> NDArray[np.uint8]:
        """The first images under a condition, shape (n, H, W, C)."""
        shown: NDArray[np.uint8] = self._problem.table.arrays["thumbnails"][row].copy()
        return shown

    def _work_out(self, row: int, condition: Condition) -> None:
        leaves = int(self._levels[-1])
        batch = LiveBatch(self._core, leaves)
        start = np.zeros(leaves, np.int64)
        observations = batch.reset(Starts((condition,), start, start))
        first = 0
        for decision, count in enumerate(self._levels.tolist()):
            # all sequences of actions that begin alike are in the same state: one of each will do
            alike = leaves // count
            level = slice(first, first + count)
            self.observations[row, level] = observations[::alike]
            self.masks[level] = batch.masks()[::alike]
            self.spent[level] = batch.spent[::alike]
            self._settled[decision] = batch.settled
            first += count
            if count < leaves:
                following = alike // self.candidates
                actions = np.arange(leaves) // following % self.candidates
                observations, _, end = batch.decide(actions[:, None])
        assert end is not None
        self.potential = self._task.potential(self.spent)
        self._end = end
        regrets = self._problem.regrets(condition, self._task)
        under = slice(row * leaves, (row + 1) * leaves)
        self._accuracy[under], self._loss[under] = end.outcome.accuracy, end.outcome.loss
        self._rewards[under] = self._task.reward(end.outcome, end.costs)
        self._regrets[under] = regrets[self._problem.places(end.bits[:, :, 0])]


def tree_of(problem: TableProblem, task: Task) -> TaskTree:
    """The tree of a problem and a task; environments that agree in both share one."""
    try:
        hash(task)
    except TypeError:  # a reward of the user's own, perhaps
        return TaskTree(problem, task)
    return _shared_tree(problem, task)


@lru_cache(maxsize=4)
def _shared_tree(problem: TableProblem, task: Task) -> TaskTree:
    return TaskTree(problem, task)
