"""DQNet's way to bits for each image, on LSQ weights and the project's own costs."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from baselines.dqnet.controller import Controller
from baselines.dqnet.layout import Layout, layout_of
from baselines.dqnet.objective import DQNetObjective
from baselines.dqnet.passes import SettledPass
from baselines.dqnet.settings import Settings
from dqmq_env.errors import SettingError
from dqmq_env.evaluation.deployed import Prediction
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.pass_key import PassKey
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.candidates import telling_widths
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.randomness import derive_seed
from dqmq_env.search.live import live_network
from dqmq_env.search.meter import MeteredProblem, Spent
from dqmq_env.search.rule import Rule, RuleAgent
from dqmq_env.search.space import Space
from dqmq_env.task.decisions import JointDecisions
from dqmq_env.task.task import Task
from dqmq_env.training.loop import Callback, Schedule, Trainer


class PerImageNetwork:
    """A trained network whose bits follow each image; it draws nothing.

    Args:
        network: trained; a folded copy of it is kept.
        controller: trained with it.
        layout: which layers it decides about.
        normalize: from images to the network's input.
    """

    def __init__(
        self,
        network: QuantizedNetwork,
        controller: Controller,
        layout: Layout,
        normalize: Normalize,
    ) -> None:
        self.layout = layout
        self._network, self._controller = network.folded(), controller
        self._normalize = normalize

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Prediction:
        """See :class:`~dqmq_env.evaluation.deployed.Deployed`."""
        settled = SettledPass(self._network, self.layout, self._controller)
        logits = self._network(self._normalize(images), settled)
        return Prediction(logits, self.layout.cost(settled.chosen), settled.bits())


class DQNetAgent(RuleAgent):
    """Gives each condition the bits that most of its images get.

    Args:
        network: gives each image bits of its own; it keeps to the budget in the mean alone.
        rule: see :class:`~dqmq_env.search.rule.RuleAgent`.
        problem: see there.
        task: see there.
    """

    def __init__(
        self, network: PerImageNetwork, rule: Rule, problem: NetworkProblem, task: Task
    ) -> None:
        super().__init__(rule, problem, task)
        self.network = network


@dataclass(frozen=True)
class DQNet(Settings):
    """One look after the first stage decides about all layers behind it, for each image.

    After Liu et al., "Instance-aware dynamic neural network quantization" (CVPR 2022), as their
    code has it: the first stage has fixed bits; its output is pooled, and two linear layers give a
    hard Gumbel-softmax over the bits b - 1, b and b + 1 of each later layer; a hinge holds the mean
    cost down. It is trained jointly with weights and step sizes.

    What is not theirs: steps are LSQ's, one for each candidate. Bits are not drawn at evaluation;
    so that the cost is then what it was in training, the noise fades out while training goes on.
    The hinge is on BOPs, with those of the controller, relative to the budget. The pooled
    grid is smaller, as their controller's BOPs would be a large part of a small network's. The
    gradient with respect to a layer's bits is found for the neighbours of the bits drawn.

    The budget is kept in the mean over the images of the training mixture, not by each image, and
    not exactly.
    """

    def search(
        self, problem: MeteredProblem, task: Task, evaluations: int, seed: int
    ) -> DQNetAgent:
        """See :class:`~dqmq_env.search.protocol.Searcher`.

        No evaluation is asked for. After training, the network sees the first batch of ``search``
        images under each condition; the most frequent bits of each layer are taken together, and
        lowered where they exceed the budget.

        Raises:
            SettingError: the problem is no live network, or the budget is not on BOPs.
            BudgetError: the lowest choices everywhere exceed the budget.
        """
        live = live_network(problem, "DQNet")
        if task.budget.cost.name != "bops":
            raise SettingError(f"task: got a budget on {task.budget.cost.name}, allowed is bops")
        network = self.train(live, task.budget.fraction, seed)
        problem.count(Spent(images_trained=self._schedule(seed).trained_images))
        space = Space(live, replace(task, decisions=JointDecisions()))
        rule: dict[Condition | str, BitAssignment] = {}
        for condition in live.mixture.conditions:
            images, _ = live.batch(PassKey("search", condition, 0))
            problem.count(Spent(images_evaluated=len(images)))
            rule[condition] = _modal(network(images).bits, live, space)
        return DQNetAgent(network, Rule(rule), live, task)

    def train(
        self,
        problem: NetworkProblem,
        budget: float,
        seed: int,
        folder: Path | None = None,
        callback: Callback | None = None,
        progress_bar: bool = False,
    ) -> PerImageNetwork:
        """Train network and controller together.

        Args:
            problem: gives the float network, images and mixture.
            budget: on the mean BOPs over the mixture, as a fraction of those at 8 bits.
            seed: of everything drawn.
            folder: of resumable states and TensorBoard events; ``None`` keeps nothing.
            callback: see :data:`~dqmq_env.training.loop.Callback`.
            progress_bar: show steps, rate and time left.

        Raises:
            BudgetError: the lowest choices everywhere exceed the budget.
        """
        layout = layout_of(problem, self, budget)
        network = problem.trainable()
        controller = self._controller(problem, layout, seed)
        objective = DQNetObjective(controller, layout, self, budget, seed)
        trainer = Trainer(problem, network, objective, self._schedule(seed), folder, name="dqnet")
        trainer.run(callback, progress_bar)
        return PerImageNetwork(network, controller, layout, problem.normalize)

    def _schedule(self, seed: int) -> Schedule:
        return Schedule(self.images, self.batch, self.learning_rate, seed=seed)

    def _controller(self, problem: NetworkProblem, layout: Layout, seed: int) -> Controller:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "dqnet", "controller"))
            return Controller(
                problem.layers[layout.controlled[0]],
                len(layout.controlled),
                len(layout.choices),
                self.pool,
                self.hidden,
                self.dropout,
            )


def _modal(bits: Tensor, problem: NetworkProblem, space: Space) -> BitAssignment:
    """The most frequent bits of each layer, of several the lowest, lowered to keep to the budget.

    Args:
        bits: of each image's layers, shape (N, layers).
        problem: gives layers and options.
        space: gives the budget.
    """
    options = problem.quantized.options
    frequent = [np.bincount(column).argmax() for column in bits.numpy().T]
    wanted = BitAssignment(
        {
            spec.name: options[spec.name][telling_widths(options[spec.name]).index(width)]
            for spec, width in zip(problem.layers, frequent, strict=True)
        }
    )
    return space.assignment(space.lowered(space.places(wanted)))
