"""Environments over the shipped networks: which network, which images, which task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dqmq_env.costs import cost_by_name
from dqmq_env.data import load_fashion_mnist
from dqmq_env.envs.core import Task
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.mixture import DEFAULT_MIXTURE
from dqmq_env.task.budget import Budget
from dqmq_env.task.reward import WeightedReward
from dqmq_env.zoo.checkpoints import load_checkpoint


@dataclass(frozen=True)
class ZooSetting:
    """Plain values that say what an environment over a shipped network is about.

    Args:
        checkpoint: name of a shipped checkpoint.
        data: folder of the full Fashion-MNIST files; the embedded subset when left out.
        bits: candidate bits of the layers that are decided.
        first: bits of the first layer; ``None`` makes it one of the others.
        last: bits of the last layer; ``None`` makes it one of the others.
        conditions: those that occur, or a mapping of conditions to weights; the default mixture
            when left out.
        batch_size: images of an episode.
        cost: ``bops`` or ``size``: what is rewarded and budgeted.
        weight: of compression in the reward, 0 to 1.
        budget: bound on the cost, as a fraction of that at 8 bits.
    """

    checkpoint: str = "resnet20-fashion-mnist"
    data: str | None = None
    bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8)
    first: int | None = 8
    last: int | None = 8
    conditions: Mapping[str, float] | Sequence[str] | None = None
    batch_size: int = 250
    cost: str = "bops"
    weight: float = 0.2
    budget: float = 1.0

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "ZooSetting":
        """Make a setting from keyword arguments.

        Raises:
            SettingError: one of them is unknown.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(settings) - known)
        if unknown:
            raise SettingError(f"{unknown[0]}: unknown argument, allowed are {sorted(known)}")
        return cls(**settings)

    def problem(self) -> NetworkProblem:
        """Load the network and the images, and calibrate the quantisers."""
        network, _ = load_checkpoint(self.checkpoint)
        return NetworkProblem.over(
            network,
            load_fashion_mnist(None if self.data is None else Path(self.data)),
            bits=self.bits,
            first=self.first,
            last=self.last,
            conditions=DEFAULT_MIXTURE if self.conditions is None else self.conditions,
            batch_size=self.batch_size,
        )

    def task(self) -> Task:
        """Reward and budget."""
        reward = WeightedReward(self.cost, self.weight)
        return Task(reward, Budget(cost_by_name(self.cost), self.budget))
