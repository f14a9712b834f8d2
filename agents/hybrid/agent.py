"""The hybrid agent, in the shape of a Stable-Baselines3 algorithm."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import Env
from numpy.typing import NDArray
from torch import Tensor

from agents.hybrid.controller import Controller, Costing, candidates_of_choice
from agents.hybrid.objective import HybridObjective, HybridSettings
from agents.hybrid.policy import BitPolicy
from dqmq_env.costs import cost_by_name
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import BudgetError, CheckpointError
from dqmq_env.evaluation.deployed import Prediction
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality import describe
from dqmq_env.task.observation import ObservationLayout
from dqmq_env.training.loop import Callback, Schedule, Trainer
from dqmq_env.training.state import load_state, save_state

SCHEMA = "dqmq-hybrid-agent/1"


class HybridAgent:
    """Learns which bits each image needs, and the quantised weights, at the same time.

    Args:
        env: an environment of the suite over a live network; its problem gives the network, the
            images and the candidate bits.
        settings: of the policy.
        schedule: of the training.
        folder: of resumable states and TensorBoard events; ``None`` keeps nothing.
        device: ``auto`` takes a GPU where there is one.

    Raises:
        TypeError: the environment's problem is not a live network.
        BudgetError: no assignment meets the budget.

    Attributes:
        actions: the form of its actions, as :class:`~dqmq_env.search.protocol.Agent` has it.
        masked: whether it takes masks.
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
        self.problem = _live_problem(env)
        self.settings = settings = settings or HybridSettings()
        self.schedule = schedule = schedule or Schedule()
        self.folder = folder
        self.device = choose_device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(schedule.seed)
            self.network = self.problem.trainable()
            decided = candidates_of_choice(self.network)
            widths = self.network.layers[decided[0]].candidates
            self.policy = BitPolicy(len(decided), widths, settings.embedding)
        self.costing = Costing(cost_by_name("bops"), self.network, self.policy)
        self.policy.start_at(_location_for(settings.budget, self.costing, widths))
        self.policy.to(self.device)
        self._layout = ObservationLayout(widths)
        objective = HybridObjective(self.policy, self.costing, settings, schedule.seed)
        self._trainer = Trainer(
            self.problem, self.network, objective, schedule, folder, self.device, "hybrid"
        )

    def learn(self, callback: Callback | None = None, progress_bar: bool = False) -> "HybridAgent":
        """Train to the end of the schedule; goes on from the state in the folder.

        Args:
            callback: called with the number of finished steps; ``False`` ends training.
            progress_bar: show steps, rate and time left.
        """
        self._trainer.run(callback, progress_bar)
        return self

    def predict(
        self,
        observation: NDArray[np.float32],
        state: None = None,
        episode_start: None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.int64], None]:
        """Indices of candidate bits for observations of shape (features,) or (N, features)."""
        rows = torch.as_tensor(np.atleast_2d(observation), device=self.device)
        decisions = len(self.policy.base)
        progress = rows[:, self._layout.place("progress.index")]
        numbers = (progress * decisions).round().long().clamp(max=decisions - 1)
        actions = torch.zeros(len(rows), dtype=torch.int64)
        for number in numbers.unique().tolist():
            chosen = numbers == number
            part = rows[chosen]
            with torch.no_grad():
                probabilities = self.policy.probabilities(
                    number,
                    part[:, self._layout.part("quality")],
                    part[:, self._layout.part("activation")],
                    self.settings.last_temperature,
                ).cpu()
            best = probabilities.argmax(1)
            drawn = best if deterministic else torch.multinomial(probabilities, 1)[:, 0]
            actions[chosen.cpu()] = drawn
        array = actions.numpy()
        return (array[0] if observation.ndim == 1 else array), None

    def deployed(self) -> "DynamicNetwork":
        """The trained network with its policy, for images as they come."""
        return DynamicNetwork(self)

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


class DynamicNetwork:
    """A quantised network whose bits follow each image.

    Args:
        agent: trained.
    """

    def __init__(self, agent: HybridAgent) -> None:
        self._agent = agent
        self._network = agent.network.folded()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Prediction:
        """Classify uint8 images of shape (N, C, H, W), each at bits of its own."""
        agent = self._agent
        images = images.to(agent.device)
        controller = Controller(
            agent.policy,
            self._network,
            agent.costing,
            describe(images),
            agent.settings.last_temperature,
        )
        logits = self._network(agent.problem.normalize(images.cpu()).to(agent.device), controller)
        return Prediction(logits.cpu(), controller.cost(), controller.bits)


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


def _location_for(budget: float, costing: Costing, widths: tuple[int, ...]) -> float:
    """The uniform, fractional number of bits whose cost is the budget."""
    choices = [table for table in costing.tables if len(table) > 1]
    costs = [costing.pinned + sum(float(table[k]) for table in choices) for k in range(len(widths))]
    if budget < costs[0]:
        raise BudgetError(
            f"budget: got {budget}, the smallest reachable is {costs[0]:.4f} "
            f"(lowest bits everywhere, controller included)"
        )
    location = float(np.interp(math.sqrt(budget), np.sqrt(costs), widths))
    low, high = widths[0] - 0.4, widths[-1] + 0.4
    return min(max(location, low), high)
