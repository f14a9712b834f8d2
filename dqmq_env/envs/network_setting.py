"""Settings of environments over a live network."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from dqmq_env.data import ImageData
from dqmq_env.envs.settings import Setting
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.mixture import DEFAULT_MIXTURE
from dqmq_env.quantization.post_training import (
    DEFAULT_POST_TRAINING,
    PostTraining,
    StepSearch,
)
from dqmq_env.task.decisions import scheme_by_name
from dqmq_env.task.task import Task

_POST_TRAININGS: Mapping[str, PostTraining] = {
    "reconstruction": DEFAULT_POST_TRAINING,
    "steps": StepSearch(),
}


@dataclass(frozen=True)
class NetworkSetting(Setting):
    """Plain values that say what an environment over a live network is about.

    Args:
        bits: candidate bits of the layers that are decided.
        first: bits of the first layer; ``None`` makes it one of the others.
        last: bits of the last layer; ``None`` makes it one of the others.
        activation_bits: one width for all activations but those of the first and the last layer;
            ``None`` lets them have the candidates of the weights.
        weight_bits: the same for weights, so that decisions are about activations alone.
        decisions: ``joint`` gives weights and activations of a layer the same bits in one step;
            ``separate`` takes a step for its weights and one for its activation, as HAQ does.
        conditions: those that occur, or a mapping of conditions to weights; the default mixture
            when left out.
        batch_size: ``search`` images of a batch.
        granularity: what an episode is about: a ``batch`` under one condition, or a single
            ``image``.
        post_training: ``reconstruction`` rounds weights for the least error of each layer's output;
            ``steps`` rounds them to the nearest level, which takes less time and is less accurate.
    """

    bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8)
    first: int | None = 8
    last: int | None = 8
    activation_bits: int | None = None
    weight_bits: int | None = None
    decisions: str = "joint"
    conditions: Mapping[str, float] | Sequence[str] | None = None
    batch_size: int = 250
    granularity: str = "batch"
    post_training: str = "reconstruction"

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
        return replace(super().task(), decisions=scheme_by_name(self.decisions))

    def _over(self, network: nn.Module, data: ImageData, **further: Any) -> NetworkProblem:
        return NetworkProblem.over(
            network,
            data,
            bits=self.bits,
            first=self.first,
            last=self.last,
            activation_bits=self.activation_bits,
            weight_bits=self.weight_bits,
            conditions=DEFAULT_MIXTURE if self.conditions is None else self.conditions,
            batch_size=self.batch_size,
            granularity=self.granularity,
            post_training=_POST_TRAININGS[self.post_training],
            costs=self.costs(),
            **further,
        )
