"""Local search: one layer is raised, another lowered, what is forecast to do best comes first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dqmq_env.costs import layer_table
from dqmq_env.problem.protocol import Outcome, Problem
from dqmq_env.search.proposals import Proposals
from dqmq_env.search.space import Places, Space
from dqmq_env.search.target import Answer
from dqmq_env.task.budget import ROUNDING
from dqmq_env.task.task import Task

Rows = list[NDArray[np.float64]]
"""A number for each option of each decided layer."""

CRITERIA: dict[str, Callable[[Answer], float]] = {
    "loss": lambda answer: answer.loss,
    "accuracy": lambda answer: -answer.accuracy,
}
"""What counts as harm: the mean loss, or the accuracy that is missing."""


@dataclass
class Forecast:
    """Says how an assignment will do, from one that was evaluated: the harm of layers adds up.

    Attributes:
        task: gives the reward.
        costs: name of a cost to the fractions that the options of each decided layer take.
        base: name of a cost to the fraction that the other layers take.
        criterion: what counts as harm, see :data:`CRITERIA`.
        harm: of each option, by how much more than that of the layer's last; changed by what is
            learned.
        accuracy: by how much it changes for each unit of harm.
        loss: the same for the loss.
    """

    task: Task
    costs: dict[str, Rows]
    base: dict[str, float]
    criterion: str
    harm: Rows
    accuracy: float
    loss: float

    @classmethod
    def of(
        cls,
        problem: Problem,
        task: Task,
        space: Space,
        criterion: str,
        harm: Rows,
        loss: Rows,
        accuracy: Rows,
    ) -> Self:
        """From what each option alone does.

        Args:
            problem: gives the layers.
            task: gives the reward.
            space: gives the options.
            criterion: what counts as harm.
            harm: of each option.
            loss: what each option raises the loss by.
            accuracy: what each option raises the accuracy by.
        """
        flat = np.concatenate(harm)
        square = float(flat @ flat) or 1.0
        slopes = [float(flat @ np.concatenate(own)) / square for own in (accuracy, loss)]
        costs, base = _cost_tables(problem, space)
        return cls(task, costs, base, criterion, [own.copy() for own in harm], *slopes)

    def rewards(self, at: Places, answer: Answer, others: NDArray[np.int64]) -> NDArray[np.float64]:
        """What to expect of other assignments, shape (N,).

        Args:
            at: places that were evaluated.
            answer: how they did.
            others: shape (N, layers).
        """
        more = self._more(at, others)
        costs = {name: self.base[name] + _added(rows, others) for name, rows in self.costs.items()}
        accuracy = np.clip(answer.accuracy + self.accuracy * more, 0, 1)
        return self.task.reward(Outcome(accuracy, answer.loss + self.loss * more), costs)

    def learn(self, at: Places, answer: Answer, other: Places, found: Answer) -> None:
        """Correct the options in which another assignment differs, by the same for each of them."""
        judge = CRITERIA[self.criterion]
        missed = judge(found) - judge(answer) - float(self._more(at, other[None])[0])
        changed = np.flatnonzero(other != at)
        for layer in changed:
            self.harm[layer][other[layer]] += missed / len(changed)

    def _more(self, at: Places, others: NDArray[np.int64]) -> NDArray[np.float64]:
        return _added(self.harm, others) - _added(self.harm, at[None])


def propose_exchanges(space: Space, forecast: Forecast, others: Sequence[Places]) -> Proposals:
    """Proposes the first of some assignments, then from the best so far what may do better.

    That is whichever has the highest expected reward among the others and all :func:`exchanges`
    with the best so far; what comes of it corrects the forecast. It ends where all were tried.

    Args:
        space: gives options and budget.
        forecast: says what to expect; it is changed.
        others: one or more that keep to the budget.
    """
    at = others[0]
    best = yield space.assignment(at)
    seen = {tuple(at.tolist())}
    while True:
        tried = np.concatenate([exchanges(space, at, forecast.harm), np.stack(others)])
        order = np.argsort(-forecast.rewards(at, best, tried), kind="stable").tolist()
        fresh = (tried[row] for row in order if tuple(tried[row].tolist()) not in seen)
        places = next(fresh, None)
        if places is None:
            return None
        seen.add(tuple(places.tolist()))
        answer = yield space.assignment(places)
        forecast.learn(at, best, places, answer)
        if answer.reward > best.reward:
            at, best = places, answer


def exchanges(space: Space, at: Places, harm: Rows) -> NDArray[np.int64]:
    """What is one exchange away and keeps to the budget, shape (N, layers).

    One layer takes another option; or one takes a dearer option and another a cheaper one, which
    is the least harmful that keeps to the budget.

    Args:
        space: gives options and budget.
        at: where to begin.
        harm: of each option of each layer.
    """
    extra = [costs - costs[place] for costs, place in zip(space.costs, at, strict=True)]
    room = space.budget + ROUNDING - space.cost(at)
    layer = np.repeat(np.arange(len(at)), space.sizes)
    place = np.concatenate([np.arange(size) for size in space.sizes])
    single = _changed(at, layer, place)
    dearer = np.concatenate(extra)
    found = [single[(dearer <= room) & (place != at[layer])]]
    raised, rise, of = single[dearer > 0], dearer[dearer > 0], layer[dearer > 0]
    for other, (own, row) in enumerate(zip(extra, harm, strict=True)):
        fits = (own < 0) & (rise[:, None] + own <= room)
        usable = fits.any(1) & (of != other)
        least = np.where(fits, row, np.inf).argmin(1)
        pairs = raised[usable]
        pairs[:, other] = least[usable]
        found.append(pairs)
    return np.concatenate(found)


def _changed(at: Places, layers: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Copies of ``at``, in each of which one layer has another place."""
    copies = np.tile(at, (len(layers), 1))
    copies[np.arange(len(layers)), layers] = places
    return copies


def _added(rows: Rows, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The sum of what some assignments take of the rows, shape (N,)."""
    total = np.zeros(len(places))
    for row, own in zip(rows, places.T, strict=True):
        total += row[own]
    return total


def _cost_tables(problem: Problem, space: Space) -> tuple[dict[str, Rows], dict[str, float]]:
    """Each cost of the options of the decided layers, and of all other layers together."""
    some = space.assignment(space.narrowest())
    options = {name: (bits,) for name, bits in some.items()} | dict(
        zip(space.names, space.options, strict=True)
    )
    decided: dict[str, Rows] = {}
    others: dict[str, float] = {}
    for cost in problem.costs:
        rows = layer_table(cost, problem.layers, options)
        own = {spec.name: row for spec, row in zip(problem.layers, rows, strict=True)}
        decided[cost.name] = [own.pop(name) for name in space.names]
        others[cost.name] = sum(float(row[0]) for row in own.values())
    return decided, others
