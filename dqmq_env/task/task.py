"""A task: what is observed, what is rewarded, which budget holds; free of torch."""

from dataclasses import dataclass, field

from dqmq_env.costs import Bops, cost_by_name
from dqmq_env.errors import SettingError
from dqmq_env.problem.protocol import Problem
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import DecisionScheme, JointDecisions
from dqmq_env.task.reward import NoPotential, Potential, Reward, WeightedReward


@dataclass(frozen=True)
class Task:
    """What is rewarded, and which budget holds.

    Attributes:
        reward: judges finished episodes.
        budget: holds for every finished episode.
        potential: spreads the reward over the steps without changing returns.
        decisions: whether a layer's weights and activations are decided jointly or in turn.
    """

    reward: Reward = field(default_factory=WeightedReward)
    budget: Budget = field(default_factory=lambda: Budget(Bops()))
    potential: Potential = field(default_factory=NoPotential)
    decisions: DecisionScheme = field(default_factory=JointDecisions)


def check_costs(task: Task, problem: Problem) -> None:
    """Make sure that reward and budget count what the problem does.

    A budget may be on a cost that the problem does not state.

    Raises:
        SettingError: the reward names a cost that the problem does not state, or the budget holds
            another model of one that it states.
    """
    if isinstance(task.reward, WeightedReward):
        cost_by_name(task.reward.cost, problem.costs)
    own = task.budget.cost
    if any(cost.name == own.name and cost != own for cost in problem.costs):
        raise SettingError(
            f"budget: got another model of {own.name} than the problem's; allowed is "
            f"cost_by_name({own.name!r}, problem.costs)"
        )
