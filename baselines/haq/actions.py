"""From actions in [0, 1] to assignments that keep to a budget."""

from collections.abc import Sequence

import numpy as np

from dqmq_env.envs.actions import ContinuousActions
from dqmq_env.problem.protocol import Problem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.space import Places, Space
from dqmq_env.task.decisions import plan_of
from dqmq_env.task.task import Task


class ActionMap:
    """HAQ's mapping from actions to bits, and its walk down to the budget.

    A decision is given by its index into the candidates.

    Args:
        problem: gives layers, candidates and costs.
        task: says which decisions are taken, and which budget holds.

    Attributes:
        space: the assignments that the task allows.
        plan: the decisions.

    Raises:
        BudgetError: no assignment keeps to the budget.
    """

    def __init__(self, problem: Problem, task: Task) -> None:
        self.space = Space(problem, task)
        self.plan = plan_of(problem, task.decisions)
        self._form = ContinuousActions(self.plan.candidates, len(self.plan.decisions))
        layers = [decision.layer for decision in self.plan.decisions]
        self._decisions = [layers.count(layer) for layer in sorted(set(layers))]

    def index(self, action: float) -> int:
        """The candidate that an action in [0, 1] stands for.

        See :class:`~dqmq_env.envs.actions.ContinuousActions`; the two differ in their range.
        """
        return self._form.of_one(np.array([2 * action - 1]))[0]

    def action(self, index: int) -> float:
        """The middle of the actions that stand for the bits of a candidate, in [0, 1]."""
        candidates = self.plan.candidates
        low, high = candidates[0], candidates[-1]
        return (candidates[index] - low + 0.5) / (high - low + 1)

    def bits(self, indices: Sequence[int]) -> list[int]:
        """Bits of each decision."""
        return [self.plan.candidates[index] for index in indices]

    def assignment(self, indices: Sequence[int]) -> BitAssignment:
        """The assignment that decisions lead to."""
        return self.space.assignment(self._places(indices))

    def lowered(self, indices: Sequence[int]) -> list[int]:
        """What the budget leaves of the decisions.

        From the last decision to the first, so a layer's activation before its weights, each goes
        down by one candidate where there is a lower one; again from the last, until the budget is
        kept (``_final_action_wall`` in lib/env/linear_quantize_env.py of mit-han-lab/haq). Where
        even the lowest candidates exceed it, which a cost that falls with bits can cause, every
        layer gets its cheapest.
        """
        indices = list(indices)
        while not self._fits(indices):
            if not any(indices):
                return self._indices(self.space.narrowest())
            for number in reversed(range(len(indices))):
                if indices[number] == 0:
                    continue
                indices[number] -= 1
                if self._fits(indices):
                    break
        return indices

    def _fits(self, indices: Sequence[int]) -> bool:
        return self.space.fits(self._places(indices))

    def _places(self, indices: Sequence[int]) -> list[int]:
        """Places among the options of each layer, which go by weights first."""
        rest, widths = iter(indices), len(self.plan.candidates)
        return [
            next(rest) if count == 1 else next(rest) * widths + next(rest)
            for count in self._decisions
        ]

    def _indices(self, places: Places) -> list[int]:
        """The decisions that lead to some places."""
        found: list[int] = []
        for place, count in zip(places.tolist(), self._decisions, strict=True):
            found += [place] if count == 1 else divmod(place, len(self.plan.candidates))
        return found
