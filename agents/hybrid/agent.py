"""The hybrid agent, in the shape of a Stable-Baselines3 algorithm."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import Env
from numpy.typing import NDArray
from torch import Tensor

from agents.hybrid.costing import Costing
from agents.hybrid.deployed import DynamicNetwork
from agents.hybrid.eyes import Scene
from agents.hybrid.grids import without_idle_grids
from agents.hybrid.objective import HybridObjective
from agents.hybrid.policy import decided_layers, make_policy
from agents.hybrid.rest import Rest
from agents.hybrid.settings import HybridSettings, preset
from agents.hybrid.view import Look
from dqmq_env.costs import cost_by_name
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import BudgetError, CheckpointError, SettingError
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.grid import FLOAT_BITS, MAX_BITS
from dqmq_env.quantization.surgery import eval_mode
from dqmq_env.task.observation import ObservationLayout
from dqmq_env.training.loop import Callback, Schedule, Trainer
from dqmq_env.training.state import load_state, save_state

SCHEMA = "dqmq-hybrid-agent/14"


class HybridAgent:
    """Learns which bits the images need, and the quantised weights, at the same time.

    What the bits follow is the granularity of the environment's problem: each ``image``, each
    ``batch`` of images under one condition, or nothing (``static``).

    Args:
        env: an environment of the suite over a live network; its problem gives the network, the
            images, the candidate bits and the granularity.
        settings: of the policy; those of the preset ``by-value`` when left out. Grids of layers do
            not follow where batch norms undo it, see
            :func:`~agents.hybrid.grids.without_idle_grids`.
        schedule: of the training; with a learning rate of 0 the policy alone learns, over weights
            as post-training quantisation leaves them.
        folder: of resumable states and TensorBoard events; ``None`` keeps nothing.
        device: ``auto`` takes a GPU where there is one.

    Raises:
        TypeError: the environment's problem is not a live network.
        BudgetError: no assignment meets the budget.

    Attributes:
        actions: the form of its actions, as :class:`~dqmq_env.search.protocol.Agent` has it.
        masked: whether it takes masks.
        images_settled: images passed through the network to settle it, counting each time.
    """

    actions = "discrete"
    masked = False

    def __init__(
        self,
        env: Env[Any, Any],
        settings: HybridSettings | None = None,
        schedule: Schedule | None = None,
        folder: Path | None = None,
        device: str = "auto",
    ) -> None:
        self.problem = problem = _live_problem(env)
        self.schedule = schedule = schedule or Schedule()
        self.folder = folder
        self.device = choose_device(device)
        learns = schedule.learning_rate > 0
        self.network = problem.trainable() if learns else problem.post_trained()
        self.settings = settings = without_idle_grids(
            settings or preset(), self.network, problem.granularity, schedule.batch
        )
        if settings.align:
            self.network.align(problem.normalize(problem.calibration))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(schedule.seed)
            self.policy = make_policy(self.network, settings, problem.granularity)
        if learns and self.policy.grids.standardization is not None:
            self.policy.grids.standardization.begin()
        self._calibrate_view()
        self.costing = Costing(cost_by_name("bops"), self.network, self.policy)
        least = self.costing.of_network[0]
        if settings.budgets[0] < least:
            raise BudgetError(
                f"budget: got {settings.budgets[0]}, the smallest reachable is {least:.4f} "
                f"(lowest bits everywhere, controller included)"
            )
        starts = [self.costing.level_of(knot) for knot in self.policy.budgets.knots]
        self.policy.anchors.copy_(torch.tensor(starts))
        self.policy.to(self.device)
        self._layout = ObservationLayout(self.policy.widths)
        dynamic = self._dynamic(settings.budget)
        self._rest = Rest(dynamic, problem, settings, schedule, self.device)
        self._objective = HybridObjective(
            self.policy, self.costing, settings, problem.granularity, schedule, self._rest.learn
        )
        self.trainer = Trainer(
            problem, self.network, self._objective, schedule, folder, self.device, "hybrid"
        )
        self._settled = False
        self.images_settled = 0

    def learn(self, callback: Callback | None = None, progress_bar: bool = False) -> "HybridAgent":
        """Train to the end of the schedule; goes on from the state in the folder.

        Args:
            callback: called with the number of finished steps; ``False`` ends training.
            progress_bar: show steps, rate and time left.
        """
        self.trainer.run(callback, progress_bar)
        if self.trainer.step == self.schedule.steps and not self._settled:
            end = self._rest.learn if self.settings.refits else self._rest.settle
            self.images_settled = self._objective.images_at_rest + end()
            self._settled = True
        return self

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.int64], None]:
        """Indices of candidate bits for observations of shape (features,) or (N, features)."""
        rows = torch.as_tensor(np.atleast_2d(observation), device=self.device)
        decisions = self.policy.decisions
        progress = rows[:, self._layout.place("progress.index")]
        numbers = (progress * decisions).round().long().clamp(max=decisions - 1)
        budget = torch.full((len(rows),), self.settings.budget, device=self.device)
        actions = torch.zeros(len(rows), dtype=torch.int64)
        generator = None if deterministic else torch.default_generator
        for number in numbers.unique().tolist():
            chosen = numbers == number
            look = Look(
                Scene(rows[chosen][:, self._layout.part("quality")]),
                rows[chosen][:, self._layout.part("activation")],
            )
            allowed = self._allowed(rows[chosen], number)
            temperature = self.settings.last_temperature
            with torch.no_grad():
                drawn, _ = self.policy.draw(
                    number, look, budget[chosen], None, temperature, generator, allowed
                )
            actions[chosen.cpu()] = self.policy.places(number, drawn.sample).cpu()
        array = actions.numpy()
        return (array[0] if observation.ndim == 1 else array), None

    def deployed(self, budget: float | None = None) -> DynamicNetwork:
        """The trained network with its policy, for images as they come.

        Args:
            budget: one of those that were learned; the highest when left out.

        Raises:
            SettingError: it is outside what was learned.
        """
        low, high = self.settings.budgets
        if budget is not None and not low <= budget <= high:
            raise SettingError(f"budget: got {budget}, allowed is {low} to {high}")
        dynamic = self._dynamic(high if budget is None else budget)
        dynamic.network = self.network.folded()
        dynamic.policy = self.policy.folded(dynamic.network)
        return dynamic

    def save(self, path: Path) -> None:
        """Write weights, step sizes and policy, whole or not at all."""
        state = {
            "schema": SCHEMA,
            "settings": asdict(self.settings),
            "schedule": asdict(self.schedule),
            "network": self.network.state_dict(),
            "policy": self.policy.state_dict(),
        }
        save_state(path, state)

    @classmethod
    def load(cls, path: Path, env: Env[Any, Any], device: str = "auto") -> "HybridAgent":
        """Read what :meth:`save` wrote, for an environment over the same architecture.

        Raises:
            CheckpointError: the file is missing, damaged, foreign, or of another architecture.
        """
        state = load_state(path)
        if state.get("schema") != SCHEMA:
            raise CheckpointError(f"path: {path} is not a {SCHEMA} file")
        agent = cls(
            env, HybridSettings(**state["settings"]), Schedule(**state["schedule"]), device=device
        )
        try:
            agent.network.load_state_dict(state["network"])
            agent.policy.load_state_dict(state["policy"])
        except RuntimeError as error:
            raise CheckpointError(f"path: {path} does not fit the environment: {error}") from error
        agent.network.eval()
        return agent

    def _allowed(self, rows: Tensor, number: int) -> Tensor | None:
        """What goes with the bits of the layer before, where rungs do; bool, shape (N, K)."""
        if not (self.policy.once and number):
            return None
        before = rows[:, self._layout.place("progress.previous"), None] * MAX_BITS
        places = (before - before.new_tensor(self.policy.widths)).abs().argmin(1)
        return self.policy.rungs[:, number - 1].to(places) == places[:, None]

    def _dynamic(self, budget: float) -> DynamicNetwork:
        data = self.problem.data
        return DynamicNetwork(
            self.network,
            self.policy,
            self.costing,
            self.settings,
            self.problem.granularity,
            Normalize(data.mean, data.std).to(self.device),
            budget,
        )

    @torch.no_grad()
    def _calibrate_view(self) -> None:
        """Let the policy know how what it sees is spread, that of layers in float."""
        view, layers = self.policy.view, self.network.layers
        images = self.problem.calibration
        x, scene = self.problem.normalize(images), self.policy.scene(images, len(images))
        view.calibrate_cells(scene)
        self.policy.grids.calibrate(self.network, images, x, scene)
        if not view.channels:
            return
        numbers = {index: n for n, index in enumerate(decided_layers(self.network))}

        def choose(index: int, activation: Tensor) -> LayerBits:
            if index in numbers:
                view.calibrate(numbers[index], activation, layers[index].activation_range)
            return LayerBits(FLOAT_BITS, FLOAT_BITS)

        with eval_mode(self.network):
            self.network(x, choose)


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a GPU where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _live_problem(env: Env[Any, Any]) -> NetworkProblem:
    inner = env.unwrapped
    if not isinstance(inner, BitWidthEnv) or not isinstance(inner.problem, NetworkProblem):
        raise TypeError(f"env: got {inner!r}, allowed is an environment over a live network")
    return inner.problem
