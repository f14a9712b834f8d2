"""Passes through a network that were all computed beforehand; free of torch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dqmq_env.problem.protocol import Outcome
from dqmq_env.quality.condition import Condition

if TYPE_CHECKING:
    from dqmq_env.problem.table_problem import TableProblem


class TableRollout:
    """See :class:`~dqmq_env.problem.protocol.Rollout`; looks up what a live network would give.

    Args:
        problem: the table.
        conditions: of each pass.
    """

    def __init__(self, problem: "TableProblem", conditions: Sequence[Condition]) -> None:
        self._problem = problem
        self._rows = np.array([problem.row(condition) for condition in conditions])
        self._places = np.zeros(len(self._rows), np.int64)
        self._layer = self._decision = 0

    @property
    def quality(self) -> NDArray[np.float32]:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        rows: NDArray[np.float32] = self._problem.table.arrays["quality"][self._rows]
        return rows

    @property
    def images(self) -> NDArray[np.uint8]:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        shown: NDArray[np.uint8] = self._problem.table.arrays["thumbnails"][self._rows]
        return shown

    def activation(self) -> NDArray[np.float32]:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        table = self._problem.table.arrays[f"activation_{self._decision}"]
        found: NDArray[np.float32] = table[self._rows, self._places]
        return found

    def choose(self, bits: NDArray[np.int64]) -> None:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        name = self._problem.layers[self._layer].name
        widths = self._problem.candidates[name]
        chosen = np.searchsorted(widths, bits[:, 0])
        self._places = self._places * len(widths) + chosen
        self._layer += 1
        self._decision += len(widths) > 1

    def outcome(self) -> Outcome:
        """See :class:`~dqmq_env.problem.protocol.Rollout`."""
        return self._problem.table.outcome("search", self._rows, self._places)
