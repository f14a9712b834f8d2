"""What a search by assignments maximises: the reward under one condition, or under all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dqmq_env.costs import fraction
from dqmq_env.errors import SearchError, SettingError
from dqmq_env.quality.mixture import Mixture
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.task.budget import ROUNDING
from dqmq_env.task.task import Task


@dataclass(frozen=True)
class Answer:
    """How an assignment did, in the mean over the conditions of a target.

    Attributes:
        accuracy: top-1, in [0, 1].
        loss: mean cross-entropy in nats.
        reward: what the task gives.
    """

    accuracy: float
    loss: float
    reward: float


@dataclass(frozen=True, eq=False)
class Target:
    """The mean reward of an assignment over a mixture of conditions.

    Attributes:
        problem: answers, and counts.
        task: reward and budget.
        mixture: the conditions that the assignment is meant for.
    """

    problem: MeteredProblem
    task: Task
    mixture: Mixture

    @property
    def price(self) -> int:
        """Number of evaluations that one answer takes."""
        return len(self.mixture.conditions) * self.problem.batches

    def answer(self, assignment: BitAssignment) -> Answer:
        """Evaluate an assignment on all ``search`` images under each condition.

        Raises:
            SearchError: the assignment exceeds the budget, or the evaluations are spent.
        """
        budget = self.task.budget
        spent = fraction(budget.cost, self.problem.layers, assignment)
        if spent > budget.fraction + ROUNDING:
            raise SearchError(
                f"assignment: its {budget.cost.name} are {spent} of those at 8 "
                f"bits, the budget is {budget.fraction}"
            )
        return self.look(assignment)

    def look(self, assignment: BitAssignment) -> Answer:
        """The same for any assignment, such as all layers at their widest.

        Raises:
            SearchError: the evaluations are spent.
        """
        costs = {name: np.array([cost]) for name, cost in self.problem.cost(assignment).items()}
        total = np.zeros(3)
        shares = zip(self.mixture.conditions, self.mixture.probabilities, strict=True)
        for condition, share in shares:
            outcome = self.problem.evaluate(assignment, condition)
            reward = self.task.reward(outcome, costs)
            total += share * np.array([outcome.accuracy[0], outcome.loss[0], reward[0]])
        return Answer(*total.tolist())


def targets_of(scope: str, problem: MeteredProblem, task: Task) -> Sequence[Target]:
    """What is to be maximised, each by an assignment of its own.

    Args:
        scope: ``condition`` for an assignment for each condition, ``all`` for a single one.
        problem: gives the mixture.
        task: reward and budget.

    Raises:
        SettingError: there is no such scope.
    """
    mixture = problem.mixture
    if scope == "all":
        return [Target(problem, task, mixture)]
    if scope == "condition":
        return [Target(problem, task, Mixture.uniform([own])) for own in mixture.conditions]
    raise SettingError(f"scope: got {scope!r}, allowed are 'condition' and 'all'")
