"""SDQ: every layer steps down its candidate widths, as a learned probability lets go of each."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.descent import Descent
from baselines.option_errors import option_errors
from baselines.relaxed_search import Aim, Selection, aim_of, check_numbers
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.choice import LayerChoice
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.randomness import torch_generator
from dqmq_env.search.live import live_network
from dqmq_env.search.meter import MeteredProblem, Spent
from dqmq_env.search.rule import RuleAgent
from dqmq_env.task.task import Task
from dqmq_env.training.log import TrainingLog
from dqmq_env.training.loop import Schedule, Trainer
from dqmq_env.training.objective import Step

_LEAST_PUSH = 1e-12


@dataclass(frozen=True)
class SDQ:
    """Stochastic differentiable quantisation, after Huang et al. 2022.

    The paper was known from summaries alone and its formulas from memory, so this is its idea and
    not a reproduction. From it: a layer stands on one candidate and computes with it with
    probability beta, else with the next lower one; the gradient of beta comes through a
    Gumbel-softmax over these two; all layers begin at the highest candidate; a regulariser pushes
    beta down; a layer whose beta falls below a threshold moves to the lower candidate, where a new
    beta begins; weights and step sizes are trained meanwhile. Training at the bits found comes
    afterwards and is the shared trainer's.

    Our choices:

    - The forward pass computes the one candidate that was drawn, for the whole batch; the
      relaxed draw takes its gradient (straight through).
    - The regulariser is ``pressure * sum over layers of beta * saving * (1 - error)``: what moving
      down saves of the network's cost, less where the lower width rounds the weights badly
      (``error`` is the root of the relative squared error after training).
    - Logits of beta follow the plain gradient, measured in units of the mean push on a layer, so
      that layers differ in speed by what they save and what they lose.
    - Under a budget that excludes assignments the pressure rises exponentially with the images,
      and the search ends where the budget is met. Where images end first, layers are lowered by
      ascending beta, each once before any is lowered again.
    - Without such a budget all images are spent at a constant pressure: the price of cost that the
      reward implies, see :func:`~baselines.relaxed_search.aim_of`.

    It evaluates nothing; what it spends are images trained. The gradient of beta takes another
    forward pass, layer by layer, which is not counted.

    Attributes:
        images: number of images trained, at most, but for the rest of a batch.
        batch: images in a batch.
        learning_rate: peak rate of AdamW for weights and step sizes.
        rate: of the logits of beta.
        start: beta of a layer that has just come to a candidate.
        threshold: beta below which it moves on.
        temperature: of the Gumbel-softmax.
        first_pressure: nats of cross-entropy given for the whole cost at 8 bits, at the start.
        last_pressure: the same at the end.
        exchange: nats of cross-entropy taken for a unit of accuracy.

    Raises:
        SettingError: a number is out of range.
    """

    images: int = 12_000
    batch: int = 128
    learning_rate: float = 1e-3
    rate: float = 0.6
    start: float = 0.5
    threshold: float = 0.3
    temperature: float = 1.0
    first_pressure: float = 0.1
    last_pressure: float = 30.0
    exchange: float = 3.0

    def __post_init__(self) -> None:
        numbers = asdict(self)
        start, threshold = numbers.pop("start"), numbers.pop("threshold")
        check_numbers(numbers, {"start": start, "threshold / start": threshold / max(start, 1e-9)})

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> RuleAgent:
        """See :class:`~dqmq_env.search.protocol.Searcher`.

        Raises:
            SettingError: the problem is no live network.
            BudgetError: no assignment keeps to the budget.
        """
        return self.select(problem, task, seed).agent(problem, task)

    def select(
        self, problem: MeteredProblem, task: Task, seed: int, progress_bar: bool = False
    ) -> Selection:
        """The bits found, and the network that was trained meanwhile.

        Args:
            problem: a live network; counts the images.
            task: reward and budget.
            seed: of images and draws.
            progress_bar: show steps, rate and time left.

        Raises:
            SettingError: the problem is no live network.
            BudgetError: no assignment keeps to the budget.
        """
        live = live_network(problem, "SDQ")
        aim = aim_of(live, task, self.exchange)
        network = live.trainable()
        objective = SDQObjective(self, aim, live, seed)

        def goes_on(step: int) -> bool:
            problem.count(Spent(images_trained=self.batch))
            return not objective.done

        if not objective.done:
            schedule = Schedule(self.images, self.batch, self.learning_rate, seed=seed)
            Trainer(live, network, objective, schedule, name="sdq").run(goes_on, progress_bar)
        return Selection(aim.space.assignment(objective.descent.fitting()), network)


class SDQObjective:
    """Cross-entropy at drawn candidates, and the push on every beta.

    Args:
        settings: see :class:`SDQ`.
        aim: budget or price.
        problem: gives layers and what rounding does to their weights.
        seed: of the draws.
    """

    def __init__(self, settings: SDQ, aim: Aim, problem: NetworkProblem, seed: int) -> None:
        self.settings, self.aim, self.seed = settings, aim, seed
        self.group = 1
        self.descent = Descent(aim.space, settings.start)
        self._decided = aim.decided(problem)
        named = zip(aim.space.options, aim.space.names, strict=True)
        errors = [option_errors(problem, options, name) for options, name in named]
        self._kept = [1 - np.clip(own, 0, 1) for own in errors]
        self._pressure = 0.0
        self._loss = float("nan")

    @property
    def done(self) -> bool:
        """Whether no layer is to move any more."""
        met = self.aim.binds and self.aim.space.fits(self.descent.places)
        return met or self.aim.idle or not self.descent.open

    @property
    def identity(self) -> dict[str, Any]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        return asdict(self.settings)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See :class:`~dqmq_env.training.objective.Objective`; betas move in :meth:`after_step`."""
        return []

    def push(self) -> Tensor:
        """How much each layer is pushed at a pressure of one, shape (layers,)."""
        rows = zip(self._kept, self.descent.places, strict=True)
        kept = np.array([row[max(place - 1, 0)] for row, place in rows])
        return torch.tensor(self.descent.savings() * kept, dtype=torch.float32)

    def loss(self, network: QuantizedNetwork, step: Step) -> Tensor:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        layers = network.layers
        generator = torch_generator(self.seed, "candidates", step.number)
        drawn = self.descent.draw(self.settings.temperature, generator)

        def choose(index: int, activation: Tensor) -> LayerChoice:
            if index not in self._decided:
                return layers[index].options[0]
            number = self._decided[index]
            return self.descent.choice(number, drawn[number])

        task = step.losses(network(step.x, choose)).mean()
        self._pressure = self._pressure_at(step.progress)
        self._loss = task.item()
        return task + self._pressure * (self.push() * self.descent.betas).sum()

    def after_step(self) -> None:
        """Move the betas, and let layers go whose beta is low; see the class of the settings."""
        descent = self.descent
        gradient, descent.logits.grad = descent.logits.grad, None
        assert gradient is not None
        unit = self._pressure * float(self.push()[descent.open].mean())
        descent.move(self.settings.rate / max(unit, _LEAST_PUSH), gradient)
        for layer in descent.falling(self.settings.threshold):
            if not self.done:
                descent.lower(layer)

    def log(self, log: TrainingLog, step: int) -> dict[str, float]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        cost = self.aim.space.cost(self.descent.places)
        log.scalars({"loss/task": self._loss, "sdq/cost": cost}, step)
        return {"loss": self._loss, "cost": cost, "pressure": self._pressure}

    def state_dict(self) -> dict[str, Any]:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        return {"places": self.descent.places, "logits": self.descent.logits.detach()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`~dqmq_env.training.objective.Objective`."""
        self.descent.places = list(state["places"])
        self.descent.logits.data.copy_(state["logits"])

    def _pressure_at(self, progress: float) -> float:
        """Nats given for the whole cost, when a share ``progress`` of the images lies behind."""
        if not self.aim.binds:
            return self.aim.price
        first, last = self.settings.first_pressure, self.settings.last_pressure
        return float(first * (last / first) ** progress)
