"""What stays the same from episode to episode: the rules that every environment class plays by."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dqmq_env.problem.protocol import Problem
from dqmq_env.task.budget import Ledger
from dqmq_env.task.decisions import plan_of
from dqmq_env.task.observation import Observer
from dqmq_env.task.task import Task, check_costs


class Core:
    """A problem and a task, and what follows from the two.

    Args:
        problem: network, images and candidates.
        task: reward and budget.

    Attributes:
        plan: the decisions of an episode.
        observer: builds observations, and names their features.
        ledger: keeps account of the budget.

    Raises:
        BudgetError: the budget cannot be met.
        AssignmentError: no layer leaves a choice.
        SettingError: reward or budget are about a cost that the problem does not have.
    """

    def __init__(self, problem: Problem, task: Task) -> None:
        check_costs(task, problem)
        self.problem = problem
        self.task = task
        self.plan = plan_of(problem, task.decisions)
        self.observer = Observer(problem, self.plan)
        self.ledger = Ledger(problem, task.budget, self.plan)

    @property
    def observation_space(self) -> Any:
        """The space of one episode's observation."""
        features = len(self.observer.layout.names)
        return gym.spaces.Box(0.0, 1.0, (features,), np.float32)

    @property
    def candidates(self) -> tuple[int, ...]:
        """The candidate bits that an action is an index into."""
        return self.plan.candidates

    @property
    def decisions(self) -> int:
        """Number of steps of an episode."""
        return len(self.plan.decisions)

    def mask_of_all(self) -> NDArray[np.bool_]:
        """Which indices leave the budget reachable, for all decisions at once, shape (D * K,).

        An index is allowed where the cheapest bits elsewhere keep to the budget; of several
        allowed ones, later decisions may still have to be lowered.
        """
        rows = [self.ledger.feasible_alone(decision) for decision in self.plan.decisions]
        return np.concatenate(rows)
