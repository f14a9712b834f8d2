"""All accuracies and costs of a table side by side; free of torch."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dqmq_env.errors import SettingError
from dqmq_env.problem.quality_value import CRITERIA, Answers
from dqmq_env.problem.table import SPLITS

if TYPE_CHECKING:
    from dqmq_env.problem.table_problem import TableProblem


def answers_of(problem: "TableProblem", cost: str, criterion: str = "accuracy") -> Answers:
    """Costs and accuracies of all assignments under the conditions of the mixture.

    Args:
        problem: the table.
        cost: name of the cost.
        criterion: ``accuracy`` or ``loss``, what is decided by on ``search``.

    Raises:
        SettingError: there is no such criterion.
    """
    if criterion not in CRITERIA:
        raise SettingError(f"criterion: got {criterion!r}, allowed are {list(CRITERIA)}")
    table = problem.table
    rows = np.array([problem.row(condition) for condition in problem.mixture.conditions])
    every = np.arange(problem.count)
    search, test = (table.outcome(split, rows[:, None], every[None]) for split in SPLITS)

    def correct(places: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        front = table.arrays["front"]
        if not np.isin(places, front).all():
            return None
        packed = table.arrays["test_front"][rows][:, np.searchsorted(front, places)]
        images = table.card.images["test"]
        return np.unpackbits(packed, axis=2, count=images).astype(np.bool_)

    return Answers(
        [str(condition) for condition in problem.mixture.conditions],
        np.array(problem.mixture.probabilities),
        problem.cost_of_all(cost),
        search.accuracy if criterion == "accuracy" else -search.loss,
        search.accuracy,
        test.accuracy,
        problem.assignment,
        correct,
    )
