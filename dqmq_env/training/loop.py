"""The one loop that trains quantised networks: static baselines and the hybrid agent share it."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dqmq_env.errors import CheckpointError
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.progress import progress
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.quality.conditioned import ConditionedImages
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.training.criterion import Criterion
from dqmq_env.training.log import TrainingLog
from dqmq_env.training.objective import Objective, Step, parameter_groups
from dqmq_env.training.state import load_state, save_state

_SHOWN_IMAGES = 8


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        images: number of images in all, over as many epochs as that takes.
        batch: images in a batch.
        learning_rate: peak rate of AdamW for weights and step sizes: a short linear rise, then a
            cosine to zero.
        weight_decay: of AdamW, on convolution and linear weights.
        distillation: weight of the float network's answers beside the labels; see
            :class:`~dqmq_env.training.criterion.Criterion`.
        seed: of order, augmentation, noise and sampling.
        save_every: steps between two states on disk.
        log_every: steps between two rows in TensorBoard.
    """

    images: int = 40_000
    batch: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    distillation: float = 0.0
    seed: int = 0
    save_every: int = 50
    log_every: int = 10

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        return max(1, math.ceil(self.images / self.batch))

    @property
    def trained_images(self) -> int:
        """Images that gradients are computed on, in whole batches."""
        return self.steps * self.batch

    def rate(self, step: int) -> float:
        """Factor on every learning rate at a step."""
        rise = max(1, self.steps // 20)
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, self.steps - rise)))


Callback = Callable[[int], bool]
"""Called with the number of finished steps; training ends early where it returns ``False``."""


class Trainer:
    """Trains a quantised network on images of mixed quality; resumes exactly.

    Every number drawn depends on the seed and the step alone, so a run that was killed and resumed
    ends with the numbers of one that was not.

    Args:
        problem: gives images, mixture and normalisation.
        network: trained in place.
        objective: what to minimise.
        schedule: how long and how fast.
        folder: of the resumable state and the TensorBoard events; ``None`` keeps nothing.
        device: where the network is trained.
        name: shown on the progress bar.
    """

    def __init__(
        self,
        problem: NetworkProblem,
        network: QuantizedNetwork,
        objective: Objective,
        schedule: Schedule,
        folder: Path | None = None,
        device: torch.device | str = "cpu",
        name: str = "train",
    ) -> None:
        self.problem, self.objective = problem, objective
        self.network = network.to(device)
        self.device = torch.device(device)
        self.schedule, self.folder, self.name = schedule, folder, name
        self.step = 0
        groups = [
            *parameter_groups(network, schedule.learning_rate),
            *objective.parameter_groups(),
        ]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=schedule.weight_decay)
        self._rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        self._normalize = Normalize(problem.data.mean, problem.data.std).to(device)
        self._criterion = Criterion(problem.network, schedule.distillation, device)
        self._batches = MixedQualityBatches(
            problem.data.train,
            problem.mixture,
            schedule.batch,
            schedule.seed,
            group=objective.group,
        )

    def run(self, callback: Callback | None = None, progress_bar: bool = False) -> None:
        """Train to the end of the schedule, from the state in the folder where there is one.

        Raises:
            CheckpointError: the state is damaged, or of a run with other settings.
        """
        self._resume()
        log = TrainingLog(self.folder, self.step)
        if self.step == 0:
            self._show_conditions(log)
        with progress(self.schedule.steps, self.name, "step", self.step, progress_bar) as bar:
            while self.step < self.schedule.steps:
                self.advance()
                bar.update()
                if self.step % self.schedule.log_every == 0 or self.step == self.schedule.steps:
                    bar.set_postfix(self._log(log))
                if self.step % self.schedule.save_every == 0:
                    self._save()
                if callback is not None and not callback(self.step):
                    break
        self._save()
        log.close()
        self.network.eval()

    def advance(self) -> None:
        """Take one step."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self.schedule.rate(self.step)
        batch = self._batches.at(self.step).to(self.device)
        x = self._normalize(batch.images)
        self.network.train()
        progress = self.step / self.schedule.steps
        losses = self._criterion(x, batch.labels)
        step = Step(x, batch, self.step, progress, losses)
        loss = self.objective.loss(self.network, step)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self.objective.after_step()
        self.step += 1

    def _log(self, log: TrainingLog) -> dict[str, float]:
        log.scalars({"train/learning_rate": self._optimizer.param_groups[0]["lr"]}, self.step)
        return self.objective.log(log, self.step)

    def _show_conditions(self, log: TrainingLog) -> None:
        """Write a few images under each condition that training meets."""
        shown = ConditionedImages(self.problem.data.train.take(_SHOWN_IMAGES), self.schedule.seed)
        for condition in self.problem.mixture.conditions:
            log.images(f"conditions/{condition}", shown.under(condition), 0)

    @property
    def _identity(self) -> dict[str, Any]:
        return {
            "schedule": asdict(self.schedule),
            "mixture": self.problem.mixture.to_dict(),
            "candidates": self.network.candidates,
            "objective": self.objective.identity,
        }

    def _save(self) -> None:
        if self.folder is None:
            return
        state = {
            "identity": self._identity,
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "objective": self.objective.state_dict(),
        }
        save_state(self.folder / "state.dqmq", state)

    def _resume(self) -> None:
        path = None if self.folder is None else self.folder / "state.dqmq"
        if path is None or not path.is_file():
            return
        state = load_state(path)
        if state["identity"] != self._identity:
            raise CheckpointError(
                f"run: {path} belongs to a run with other settings; choose another folder"
            )
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        self.step = int(state["step"])
