"""Any searcher of the benchmark, asked for the bits of a network under one budget after another."""

from dataclasses import dataclass

from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.protocol import Searcher
from dqmq_env.search.rule import Rule, RuleAgent, rule_of
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import DecisionScheme
from dqmq_env.task.reward import AccuracyReward
from dqmq_env.task.task import Task


@dataclass(frozen=True)
class AgentSearch:
    """Finds the bits of the highest accuracy on ``search`` images that a searcher comes upon.

    Attributes:
        problem: a live network.
        searcher: looks anew for each budget.
        decisions: whether weights and activations of a layer are decided jointly or separately.
        evaluations: how many batches may be evaluated for a budget.
        seed: of everything drawn.
    """

    problem: NetworkProblem
    searcher: Searcher
    decisions: DecisionScheme
    evaluations: int
    seed: int

    def find(self, budget: Budget) -> BitAssignment | Rule:
        """One assignment where all conditions get the same, else one for each.

        Raises:
            BudgetError: no assignment keeps to the budget.
            SearchError: the searcher cannot do with the evaluations.
        """
        task = Task(AccuracyReward(), budget, decisions=self.decisions)
        metered = MeteredProblem(self.problem, self.evaluations)
        agent = self.searcher.search(metered, task, self.evaluations, self.seed)
        # what a rule does need not be played
        rule = agent.rule if isinstance(agent, RuleAgent) else rule_of(agent, self.problem, task)
        different = set(rule.values())
        return different.pop() if len(different) == 1 else rule
