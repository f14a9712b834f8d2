"""One integer programme for each budget over sensitivities that are measured once, then refined."""

import numpy as np
from numpy.typing import NDArray

from baselines.exchange import Forecast, propose_exchanges
from baselines.fast_search.sample import Sample
from baselines.fast_search.sensitivities import Store, measured
from baselines.fast_search.settings import FastSettings
from baselines.ilp import solve
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.protocol import Outcome
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.space import Space
from dqmq_env.search.target import Answer
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import DecisionScheme, JointDecisions
from dqmq_env.task.reward import Costs
from dqmq_env.task.task import Task


class Likeness:
    """A reward: how near the network's answers are to those in float, minus the loss."""

    def __call__(self, outcome: Outcome, costs: Costs) -> NDArray[np.float64]:
        """See :class:`~dqmq_env.task.reward.Reward`."""
        return -outcome.loss


class FastSearch:
    """Finds one assignment for all conditions under any budget, without training and labels.

    What each option of each layer alone adds to the divergence from float
    (:class:`~baselines.fast_search.sample.Sample`) is measured once. For each budget the assignment
    of the least sum is found exactly (:func:`~baselines.ilp.solve`); as harm does not quite add up,
    a few assignments that are an exchange away are looked at as well
    (:func:`~baselines.exchange.propose_exchanges`), and the nearest to float is taken. What is
    found for a budget does not depend on other budgets.

    Args:
        problem: a live network; its calibration images alone are looked at.
        settings: how much is looked at.
        decisions: whether weights and activations of a layer are decided jointly or separately.
        store: keeps the sensitivities; they are kept nowhere when left out.
        progress_bar: show how measuring gets on.

    Raises:
        CheckpointError: the store holds sensitivities of something else.
        AssignmentError: no layer leaves a choice.
    """

    def __init__(
        self,
        problem: NetworkProblem,
        settings: FastSettings | None = None,
        decisions: DecisionScheme | None = None,
        store: Store | None = None,
        progress_bar: bool = False,
    ) -> None:
        self._problem = problem
        self._settings = settings or FastSettings()
        self._decisions = decisions or JointDecisions()
        self.sample = Sample(problem, self._settings.images)
        space = Space(problem, self._task(Budget(problem.costs[0], float("inf"))))
        self._harm = measured(self.sample, space, store, progress_bar)

    def find(self, budget: Budget) -> BitAssignment:
        """The assignment within a budget whose answers are nearest to those in float.

        Raises:
            BudgetError: no assignment keeps to the budget.
            SettingError: the problem does not state such a cost.
        """
        task = self._task(budget)
        space = Space(self._problem, task)
        places = solve(self._harm, space.costs, budget.fraction - space.fixed)
        zeros = [np.zeros_like(row) for row in self._harm]
        forecast = Forecast.of(
            self._problem, task, space, "loss", self._harm, self._harm, accuracy=zeros
        )
        search = propose_exchanges(space, forecast, [places])
        tried: dict[BitAssignment, float] = {}
        proposal = next(search)
        while True:
            tried[proposal] = divergence = self.sample.divergence(proposal)
            if len(tried) == self._settings.refine:
                break
            try:
                proposal = search.send(Answer(0.0, divergence, -divergence))
            except StopIteration:
                break
        search.close()
        return min(tried, key=tried.__getitem__)

    def _task(self, budget: Budget) -> Task:
        return Task(Likeness(), budget, decisions=self._decisions)
