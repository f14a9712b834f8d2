"""Environments made from plain values: what their settings and their classes share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from dqmq_env.costs import Cost, cost_by_name, costs_with
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.envs.vector import BitWidthVectorEnv
from dqmq_env.errors import SettingError
from dqmq_env.problem.protocol import Problem
from dqmq_env.task.budget import Budget
from dqmq_env.task.reward import WeightedReward
from dqmq_env.task.task import Task


@dataclass(frozen=True)
class Setting(ABC):
    """Plain values, such as JSON can hold, that say what an environment is about.

    Args:
        cost: what is rewarded and budgeted: ``bops``, ``size``, ``energy``, ``memory`` or, with a
            ``latency_table``, ``latency``; ``docs/costs.md`` has their formulas.
        weight: of compression in the reward, 0 to 1.
        budget: bound on the cost, as a fraction of that at 8 bits.
        latency_table: path of a table of measured latencies, such as ``dqmq cost measure`` writes.
        weight_memory: where ``energy`` has weights come from: ``sram`` on the chip, or ``dram``.
    """

    cost: str = "bops"
    weight: float = 0.2
    budget: float = 1.0
    latency_table: str | None = None
    weight_memory: str = "sram"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Make a setting from keyword arguments.

        Raises:
            SettingError: one of them is unknown.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(settings) - known)
        if unknown:
            raise SettingError(f"{unknown[0]}: unknown argument, allowed are {sorted(known)}")
        return cls(**settings)

    @abstractmethod
    def problem(self) -> Problem:
        """Load what the environment is about."""

    def costs(self) -> tuple[Cost, ...]:
        """The costs that the problem is to state: size, BOPs, and those that are asked for.

        Raises:
            SettingError: there is no such cost, or a table is missing.
            TableError: the latency table cannot be read.
        """
        return costs_with(self.cost, self.latency_table, self.weight_memory)

    def task(self) -> Task:
        """Reward and budget."""
        reward = WeightedReward(self.cost, self.weight)
        return Task(reward, Budget(cost_by_name(self.cost, self.costs()), self.budget))


class SettingEnv(BitWidthEnv):
    """An environment that is made from plain values; a derived class says from which."""

    setting_type: ClassVar[type[Setting]]

    def __init__(
        self, actions: str = "discrete", render_mode: str | None = None, **setting: Any
    ) -> None:
        """Load what the environment is about.

        Args:
            actions: ``discrete``, ``continuous`` or ``one-shot``; the id sets it.
            render_mode: ``None``, ``"human"``, ``"rgb_array"`` or ``"ansi"``.
            setting: fields of ``setting_type``.

        Raises:
            DQMQError: an unknown argument, or a value that is not allowed.
        """
        made = self.setting_type.of(setting)
        task = made.task()  # first, since a wrong one should be refused before any long work
        super().__init__(made.problem(), task, actions, render_mode)


class SettingVectorEnv(BitWidthVectorEnv):
    """Many episodes of a :class:`SettingEnv` at once."""

    setting_type: ClassVar[type[Setting]]

    def __init__(self, num_envs: int = 1, actions: str = "discrete", **setting: Any) -> None:
        """Load what the environment is about, once for all episodes.

        Args:
            num_envs: number of episodes.
            actions: ``discrete``, ``continuous`` or ``one-shot``; the id sets it.
            setting: fields of ``setting_type``.

        Raises:
            DQMQError: an unknown argument, or a value that is not allowed.
        """
        made = self.setting_type.of(setting)
        task = made.task()
        super().__init__(num_envs, made.problem(), task, actions)
