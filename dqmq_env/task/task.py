"""A task: what is observed, what is rewarded, which budget holds; free of torch."""

from dataclasses import dataclass, field

from dqmq_env.costs import Bops
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
