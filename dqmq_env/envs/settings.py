"""Environments made from plain values: what their settings and their classes share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from torch import nn

from dqmq_env.costs import cost_by_name
from dqmq_env.data import ImageData
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.envs.vector import BitWidthVectorEnv
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.mixture import DEFAULT_MIXTURE
from dqmq_env.quantization.post_training import (
    DEFAULT_POST_TRAINING,
    PostTraining,
    StepSearch,
)
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import scheme_by_name
from dqmq_env.task.reward import WeightedReward
from dqmq_env.task.task import Task

_POST_TRAININGS: Mapping[str, PostTraining] = {
    "reconstruction": DEFAULT_POST_TRAINING,
    "steps": StepSearch(),
}


@dataclass(frozen=True)
class Setting(ABC):
    """Plain values, such as JSON can hold, that say what an environment is about.

    Args:
        bits: candidate bits of the layers that are decided.
        first: bits of the first layer; ``None`` makes it one of the others.
        last: bits of the last layer; ``None`` makes it one of the others.
        activation_bits: one width for all activations but those of the first and the last layer;
            ``None`` lets them have the candidates of the weights.
        decisions: ``joint`` gives weights and activations of a layer the same bits in one step;
            ``separate`` takes a step for its weights and one for its activation, as HAQ does.
        conditions: those that occur, or a mapping of conditions to weights; the default mixture
            when left out.
        batch_size: ``search`` images of a batch.
        granularity: what an episode is about: a ``batch`` under one condition, or a single
            ``image``.
        post_training: ``reconstruction`` rounds weights for the least error of each layer's output;
            ``steps`` rounds them to the nearest level, which takes less time and is less accurate.
        cost: ``bops`` or ``size``: what is rewarded and budgeted.
        weight: of compression in the reward, 0 to 1.
        budget: bound on the cost, as a fraction of that at 8 bits.
    """

    bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8)
    first: int | None = 8
    last: int | None = 8
    activation_bits: int | None = None
    decisions: str = "joint"
    conditions: Mapping[str, float] | Sequence[str] | None = None
    batch_size: int = 250
    granularity: str = "batch"
    post_training: str = "reconstruction"
    cost: str = "bops"
    weight: float = 0.2
    budget: float = 1.0

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
    def problem(self) -> NetworkProblem:
        """Load the network and the images, and calibrate the quantisers."""

    def __post_init__(self) -> None:
        if self.post_training not in _POST_TRAININGS:
            raise SettingError(
                f"post_training: got {self.post_training!r}, allowed are {list(_POST_TRAININGS)}"
            )

    def task(self) -> Task:
        """Reward, budget and decisions."""
        reward = WeightedReward(self.cost, self.weight)
        budget = Budget(cost_by_name(self.cost), self.budget)
        return Task(reward, budget, decisions=scheme_by_name(self.decisions))

    def _over(self, network: nn.Module, data: ImageData) -> NetworkProblem:
        return NetworkProblem.over(
            network,
            data,
            bits=self.bits,
            first=self.first,
            last=self.last,
            activation_bits=self.activation_bits,
            conditions=DEFAULT_MIXTURE if self.conditions is None else self.conditions,
            batch_size=self.batch_size,
            granularity=self.granularity,
            post_training=_POST_TRAININGS[self.post_training],
        )


class SettingEnv(BitWidthEnv):
    """An environment that is made from plain values; a derived class says from which."""

    setting_type: ClassVar[type[Setting]]

    def __init__(
        self, actions: str = "discrete", render_mode: str | None = None, **setting: Any
    ) -> None:
        """Load network and images, and calibrate the quantisers.

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
        """Load network and images, and calibrate the quantisers, once for all episodes.

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
