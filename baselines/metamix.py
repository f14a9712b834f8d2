"""MetaMix: bits by the weight of each candidate in a mixture of quantised activations."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.mixed_inputs import frozen, mixed_inputs
from baselines.relaxed_search import (
    Aim,
    Selection,
    aim_of,
    check_numbers,
    lowered_to_fit,
)
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.choice import Chooser, LayerChoice
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.step_size import MeanSquaredError
from dqmq_env.search.live import live_network
from dqmq_env.search.meter import MeteredProblem, Spent
from dqmq_env.search.rule import RuleAgent
from dqmq_env.search.space import Places
from dqmq_env.task.task import Task
from dqmq_env.training.log import TrainingLog
from dqmq_env.training.loop import Schedule, Trainer
from dqmq_env.training.objective import Step

_CANDIDATES_LOSSES = ("mean", "last")

Count = Callable[[Spent], None]
"""Is told what was spent."""


@dataclass(frozen=True)
class MetaMix:
    """MetaMix (Kim et al. 2024), after a public training script.

    While bits are selected weights stay in float and each mini-batch is used twice:

    1. It passes through the network once for each candidate, with all decided activations at it;
       weights and step sizes follow the loss.
    2. After a warm-up it passes once more, each decided layer receiving the sum of its input
       quantised at every candidate, weighted by the softmax of the layer's alpha; alpha alone
       follows cross-entropy plus ``penalty * |cost / budget - 1|``, the cost being the one expected
       under these weights.

    A layer's bits are the candidate of its largest alpha. Training at the bits found comes
    afterwards and is the shared trainer's.

    Where we depart from the script:

    - It back-propagates the loss of the last, widest candidate alone; by default we take the
      mean over candidates. ``candidates_loss="last"`` does as the script.
    - It distils from a larger network. With ``distillation`` above zero ours learns from the
      problem's own float network.
    - It selects bits of activations and gives all weights 4 bits. In our decisions a layer's
      weights and activation share their bits: selected by what the activation loses, they hold for
      the weights too, and the cost is that of both.
    - Its penalty is 4.0 for each GBOP off a target of 3.31, which is 13 for the whole of it; ours
      is lower, as in a hundred steps it would drown what tells layers apart.
    - Alpha's rate is higher than its 1e-4, as there are a hundred steps and not ten thousand; the
      running statistics of batch norms do not move in the second pass.
    - The temperature of the softmax falls exponentially, from 1, so that the cost that is expected
      comes to be that of the bits selected; at 1 throughout, as in the script, the budget is kept
      by mixing wide candidates with the narrowest, which is then selected everywhere.
    - Where the bits exceed the budget, layers are lowered one by one, each time where the least
      alpha is lost.
    - Without a budget that excludes assignments, alpha follows cross-entropy plus the price of
      cost that the reward implies, see :func:`~baselines.relaxed_search.aim_of`.

    It evaluates nothing; what it spends are images trained, in each pass that has a gradient.

    Attributes:
        images: number of images drawn, but for the rest of a batch; with K candidates they make K
            or K + 1 times as many that are trained.
        batch: images in a batch.
        learning_rate: peak rate of AdamW for weights and step sizes.
        alpha_rate: of Adam for alpha.
        warm_up: share of the mini-batches that are not used for alpha.
        penalty: nats given for each relative deviation from the budget.
        last_temperature: of the softmax of alpha, at the end.
        candidates_loss: ``mean`` or ``last``, of the candidates in the first use of a batch.
        distillation: share of the divergence from the float network in the loss of weights.
        exchange: nats of cross-entropy taken for a unit of accuracy.

    Raises:
        SettingError: a setting is out of range.
    """

    images: int = 12_000
    batch: int = 128
    learning_rate: float = 1e-3
    alpha_rate: float = 0.3
    warm_up: float = 0.5
    penalty: float = 1.0
    last_temperature: float = 0.1
    candidates_loss: str = "mean"
    distillation: float = 0.0
    exchange: float = 3.0

    def __post_init__(self) -> None:
        numbers = asdict(self)
        others = ("warm_up", "candidates_loss", "distillation")
        check_numbers(
            {name: own for name, own in numbers.items() if name not in others},
            {"warm_up": self.warm_up},
        )
        if not 0 <= self.distillation <= 1:
            raise SettingError(f"distillation: got {self.distillation}, allowed are 0 to 1")
        if self.candidates_loss not in _CANDIDATES_LOSSES:
            raise SettingError(
                f"candidates_loss: got {self.candidates_loss!r}, allowed are "
                f"{list(_CANDIDATES_LOSSES)}"
            )

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> RuleAgent:
        """See :class:`~dqmq_env.search.protocol.Searcher`.

        Raises:
            SettingError: the problem is no live network, or its activations have one width.
            BudgetError: no assignment keeps to the budget.
        """
        return self.select(problem, task, seed).agent(problem, task)

    def select(
        self, problem: MeteredProblem, task: Task, seed: int, progress_bar: bool = False
    ) -> Selection:
        """The bits found, and the network that was trained meanwhile, whose weights are in float.

        Args:
            problem: a live network; counts the images.
            task: reward and budget.
            seed: of the images.
            progress_bar: show steps, rate and time left.

        Raises:
            SettingError: the problem is no live network, or its activations have one width.
            BudgetError: no assignment keeps to the budget.
        """
        live = live_network(problem, "MetaMix")
        aim = aim_of(live, task, self.exchange)
        widths = {live.activation_candidates[name] for name in aim.space.names}
        if any(len(own) == 1 for own in widths):
            raise SettingError(
                f"activation_bits: got one width, {sorted(widths)}; MetaMix selects bits of "
                "activations, allowed is None"
            )
        network = live.trainable()
        objective = MetaMixObjective(self, aim, live, problem.count)
        if aim.idle:
            return Selection(aim.space.assignment(aim.space.widest()), network)
        schedule = Schedule(
            self.images,
            self.batch,
            self.learning_rate,
            distillation=self.distillation,
            seed=seed,
        )
        Trainer(live, network, objective, schedule, name="metamix").run(progress_bar=progress_bar)
        for layer in network.layers:  # their steps were left behind by weights trained in float
            layer.calibrate_weights(MeanSquaredError())
        return Selection(aim.space.assignment(objective.selected()), network)

    def temperature(self, progress: float) -> float:
        """When a share ``progress`` of the images lies behind, after the warm-up."""
        return float(self.last_temperature ** ((progress - self.warm_up) / (1 - self.warm_up)))


class MetaMixObjective:
    """Cross-entropy at all candidates for the weights, of their mixture for alpha.

    Args:
        settings: see :class:`MetaMix`.
        aim: budget or price.
        problem: gives layers, and the float network to learn from.
        count: is told of the images.

    Attributes:
        alpha: weight of each candidate before the softmax, shape (layers, K).
        temperature: of the softmax.
    """

    def __init__(self, settings: MetaMix, aim: Aim, problem: NetworkProblem, count: Count) -> None:
        self.settings, self.aim, self._count = settings, aim, count
        self.group = 1
        self._decided = aim.decided(problem)
        self._widths = [option.activation for option in aim.space.options[0]]
        self._costs = torch.tensor(np.array(aim.space.costs), dtype=torch.float32)
        self.alpha = torch.zeros(self._costs.shape, requires_grad=True)
        # the script's, but for the rate
        self._adam = torch.optim.Adam(
            [self.alpha], lr=settings.alpha_rate, betas=(0.5, 0.999), weight_decay=1e-3
        )
        self.temperature = 1.0
        self._held: tuple[QuantizedNetwork, Tensor, Tensor] | None = None
        self._numbers: dict[str, float] = {}

    @property
    def identity(self) -> dict[str, Any]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        return asdict(self.settings)

    @property
    def shares(self) -> Tensor:
        """Share of each candidate in what a layer receives, shape (layers, K)."""
        return (self.alpha / self.temperature).softmax(1)

    @property
    def expected_cost(self) -> Tensor:
        """The budgeted cost under these shares, as a fraction of that at 8 bits."""
        return self.aim.space.fixed + (self.shares * self._costs).sum()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See :class:`~dqmq_env.training.objective.Objective`; alpha moves in its own turn."""
        return []

    def loss(self, network: QuantizedNetwork, step: Step) -> Tensor:
        """See :class:`~dqmq_env.training.objective.Objective`: the first use of a batch."""
        x, labels = step.x, step.batch.labels
        warm = step.progress < self.settings.warm_up
        self._held = None if warm else (network, x, labels)
        if not warm:
            self.temperature = self.settings.temperature(step.progress)
        if self.settings.distillation:
            self._count(Spent(images_evaluated=len(x)))
        *others, last = self._widths
        if self.settings.candidates_loss == "last":
            with torch.no_grad():  # for the statistics of batch norms
                for width in others:
                    network(x, self._at(network, width))
            self._count(Spent(images_evaluated=len(others) * len(x), images_trained=len(x)))
            loss = step.losses(network(x, self._at(network, last))).mean()
        else:
            logits = [network(x, self._at(network, width)) for width in self._widths]
            self._count(Spent(images_trained=len(logits) * len(x)))
            loss = torch.stack([step.losses(own) for own in logits]).mean()
        self._numbers["loss/candidates"] = loss.item()
        return loss

    def after_step(self) -> None:
        """Use the batch for alpha alone, after the warm-up."""
        if self._held is None:
            return
        network, x, labels = self._held
        self._held = None
        with frozen(network):
            loss = self.mixture_loss(network, x, labels)
            (self.alpha.grad,) = torch.autograd.grad(loss, [self.alpha])
        self._adam.step()
        self._count(Spent(images_trained=len(x)))
        self._numbers["loss/mixture"] = loss.item()

    def mixture_loss(self, network: QuantizedNetwork, x: Tensor, labels: Tensor) -> Tensor:
        """What alpha follows.

        Args:
            network: passed through with each decided layer at its mixture.
            x: normalised images, shape (N, C, H, W).
            labels: int64, shape (N,).
        """
        shares = dict(zip(self._decided, self.shares, strict=True))
        with mixed_inputs(network, shares):
            task = F.cross_entropy(network(x, self._at(network, FLOAT_BITS)), labels)
        if not self.aim.binds:
            return task + self.aim.price * self.expected_cost
        deviation = self.expected_cost / self.aim.space.budget - 1
        return task + self.settings.penalty * deviation.abs()

    @torch.no_grad()
    def selected(self) -> Places:
        """The candidate of the largest alpha in each layer, lowered to the budget."""
        alpha = self.alpha.numpy()
        places = alpha.argmax(1)
        return lowered_to_fit(
            self.aim.space,
            places,
            lambda layer, place, lower: float(alpha[layer, place] - alpha[layer, lower]),
        )

    def log(self, log: TrainingLog, step: int) -> dict[str, float]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        cost = self.expected_cost.item()
        log.scalars({**self._numbers, "metamix/expected_cost": cost}, step)
        return {"loss": self._numbers["loss/candidates"], "cost": cost}

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        return {"alpha": self.alpha.detach(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        self.alpha.data.copy_(state["alpha"])
        self._adam.load_state_dict(state["adam"])

    def _at(self, network: QuantizedNetwork, width: int) -> Chooser:
        """Float weights; decided activations at a width, the others at the one that they have."""
        layers = network.layers

        def choose(index: int, activation: Tensor) -> LayerChoice:
            decided = index in self._decided
            return LayerBits(FLOAT_BITS, width if decided else layers[index].options[0].activation)

        return choose
