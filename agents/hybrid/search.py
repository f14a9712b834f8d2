"""The hybrid agent as a searcher, so that the benchmark runs it beside the others."""

from dataclasses import dataclass, field
from typing import Any

from agents.hybrid.agent import HybridAgent
from agents.hybrid.settings import HybridSettings
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import SettingError
from dqmq_env.search.live import live_network
from dqmq_env.search.meter import MeteredProblem, Spent
from dqmq_env.task.task import Task
from dqmq_env.training.loop import Schedule


@dataclass(frozen=True)
class HybridSearch:
    """Learns bits and weights together under the task's budget; evaluates nothing.

    The agent keeps the average BOPs to the budget, its own included; where a single episode asks
    for more, the environment lowers it. What the bits follow is the granularity of the problem; the
    rule that is read off the agent has what it does most often under each condition.

    Attributes:
        images: to train on.
        batch: images in a training batch.
        learning_rate: peak rate of weights and step sizes.
        settings: fields of :class:`~agents.hybrid.objective.HybridSettings` but ``budget``.

    Raises:
        SettingError: there is no such setting, or it is the budget.
    """

    images: int = 12_000
    batch: int = 128
    learning_rate: float = 1e-3
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = set(HybridSettings.__dataclass_fields__) - {"budget"}
        unknown = sorted(set(self.settings) - known)
        if unknown:
            raise SettingError(f"settings: got {unknown}, allowed are {sorted(known)}")

    def search(
        self, problem: MeteredProblem, task: Task, evaluations: int, seed: int
    ) -> HybridAgent:
        """See :class:`~dqmq_env.search.protocol.Searcher`; images trained are counted.

        Raises:
            SettingError: the problem is no live network, or the budget is not on BOPs.
            BudgetError: no assignment meets the budget with the agent's own cost.
        """
        live = live_network(problem, "the hybrid agent")
        if task.budget.cost.name != "bops":
            raise SettingError(f"budget: got one on {task.budget.cost.name}, allowed is bops")
        schedule = Schedule(self.images, self.batch, self.learning_rate, seed=seed)
        settings = HybridSettings(budget=task.budget.fraction, **self.settings)
        agent = HybridAgent(BitWidthEnv(live, task), settings, schedule, device="cpu")
        agent.learn()
        problem.count(
            Spent(images_evaluated=agent.images_settled, images_trained=schedule.trained_images)
        )
        return agent
