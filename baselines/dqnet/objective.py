"""The loss: cross-entropy, and a hinge on what the bits cost."""

from dataclasses import asdict
from typing import Any

from torch import Tensor

from baselines.dqnet.controller import Controller
from baselines.dqnet.layout import Layout, measure_of
from baselines.dqnet.passes import DrawnPass
from baselines.dqnet.settings import Settings
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.randomness import torch_generator
from dqmq_env.training.log import TrainingLog
from dqmq_env.training.objective import Step


class DQNetObjective:
    """Minimises ``cross_entropy + weight * max(0, cost / target - 1)``.

    The cost is the mean over the batch at the bits that were drawn. The published hinge is 0.05 for
    each bit that mean bits exceed their target by: a weight of 0.2 where the target is 4.

    Args:
        controller: learned.
        layout: which layers it decides about.
        settings: see :class:`~baselines.dqnet.settings.Settings`.
        budget: the target, as a fraction of the BOPs at 8 bits.
        seed: of noise and dropout.
    """

    group = 1

    def __init__(
        self, controller: Controller, layout: Layout, settings: Settings, budget: float, seed: int
    ) -> None:
        self.controller, self.layout, self.settings = controller, layout, settings
        self._budget, self._seed = budget, seed
        self._measure = measure_of(layout, settings, budget)
        self._numbers: dict[str, float] = {}
        self._bits: list[float] = []

    @property
    def identity(self) -> dict[str, Any]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        return asdict(self.settings) | {"budget": self._budget}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        parameters, rate = list(self.controller.parameters()), self.settings.controller_rate
        return [{"params": parameters, "lr": rate, "weight_decay": 0.0}]

    def loss(self, network: QuantizedNetwork, step: Step) -> Tensor:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        drawn = DrawnPass(
            network,
            self.layout,
            self.controller,
            self.settings.temperature,
            self.settings.noise(step.progress),
            torch_generator(self._seed, "dqnet", step.number),
        )
        task = step.losses(network(step.x, drawn)).mean()
        excess = self._measure.of(drawn.one_hot).mean() / self._measure.target - 1
        self._bits = drawn.bits().double().mean(0).tolist()
        self._numbers = {
            "loss/task": task.item(),
            "controller/cost": float(self.layout.cost(drawn.chosen).mean()),
            "controller/excess": excess.item(),
        }
        return task + self.settings.weight * excess.clamp_min(0)

    def after_step(self) -> None:
        """See :class:`~dqmq_env.training.objective.Objective`."""

    def log(self, log: TrainingLog, step: int) -> dict[str, float]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        log.scalars(self._numbers, step)
        for index, mean in enumerate(self._bits):
            log.scalars({f"bits_by_layer/{index:02d}": mean}, step)
        return {
            "loss": self._numbers["loss/task"],
            "cost": self._numbers["controller/cost"],
        }

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        return {"controller": self.controller.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        self.controller.load_state_dict(state["controller"])
