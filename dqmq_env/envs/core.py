"""The one implementation of the environment: N episodes in step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dqmq_env.costs import COSTS
from dqmq_env.problem.protocol import Outcome, Problem, Rollout
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.task.budget import Ledger, pair_tables
from dqmq_env.task.decisions import (
    ACTIVATION,
    WEIGHT,
    Decision,
    plan_of,
)
from dqmq_env.task.observation import Observer
from dqmq_env.task.task import Task


@dataclass(frozen=True)
class Finished:
    """What is known at the end of N episodes.

    Attributes:
        layers: names of all layers in forward order.
        bits: as executed, of weights and activation of each layer, shape (N, layers, 2).
        outcome: accuracy and loss.
        costs: name to fractions of the cost at 8 bits, shape (N,).
        lowered: number of actions that the budget lowered, shape (N,).
    """

    layers: tuple[str, ...]
    bits: NDArray[np.int64]
    outcome: Outcome
    costs: dict[str, NDArray[np.float64]]
    lowered: NDArray[np.int64]


class BatchedCore:
    """N episodes that take the same decision, each in its own way, at the same time.

    Args:
        problem: network, images and candidates.
        task: reward and budget.
        count: N.

    Raises:
        BudgetError: the budget cannot be met.
        AssignmentError: no layer leaves a choice.
    """

    def __init__(self, problem: Problem, task: Task, count: int) -> None:
        self.problem = problem
        self.task = task
        self.count = count
        self.plan = plan_of(problem, task.decisions)
        self.observer = Observer(problem, self.plan)
        self._ledger = Ledger(problem, task.budget, self.plan)
        self._cost_tables = {cost.name: pair_tables(cost, problem) for cost in COSTS}
        self._rollout: Rollout | None = None
        self._quality = np.zeros((count, 6), np.float32)
        self._conditions: tuple[Condition, ...] = ()
        self._next = Decision(0, WEIGHT)
        self._decision = 0
        self._spent = np.zeros(count)
        self._begun = self._spent
        self._weight = np.zeros(count, np.int64)
        self._bits: list[NDArray[np.int64]] = []
        self._previous = np.zeros(count, np.int64)
        self._lowered = np.zeros(count, np.int64)

    @property
    def observation_space(self) -> Any:
        """The space of one episode's observation."""
        features = len(self.observer.layout.names)
        return gym.spaces.Box(0.0, 1.0, (features,), np.float32)

    @property
    def candidates(self) -> tuple[int, ...]:
        """The candidate bits that an action is an index into."""
        return self.plan.candidates

    @property
    def decisions(self) -> int:
        """Number of steps of an episode."""
        return len(self.plan.decisions)

    @property
    def decision(self) -> int:
        """Number of decisions taken."""
        return self._decision

    @property
    def running(self) -> bool:
        """Whether a reset was made and decisions are left."""
        return self._rollout is not None and self._decision < self.decisions

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The condition of each episode."""
        return self._conditions

    @property
    def spent(self) -> NDArray[np.float64]:
        """What is settled so far of the budgeted cost, as a fraction of the whole, shape (N,)."""
        return self._spent.copy()

    @property
    def images(self) -> NDArray[np.uint8]:
        """The first images of each episode, shape (N, n, H, W, C)."""
        assert self._rollout is not None
        return self._rollout.images

    def bits(self, episode: int) -> tuple[LayerBits | None, ...]:
        """Bits of every layer of an episode, in forward order, ``None`` where undecided."""
        decided = [LayerBits(*row[episode].tolist()) for row in self._bits]
        return tuple(decided) + (None,) * (len(self.problem.layers) - len(decided))

    def reset(self, conditions: Sequence[Condition], batches: Sequence[int]) -> NDArray[np.float32]:
        """Begin N episodes; return observations of shape (N, features)."""
        self._rollout = self.problem.start(conditions, batches)
        self._conditions = tuple(conditions)
        self._quality = self._rollout.quality
        self._next, self._decision = Decision(0, WEIGHT), 0
        self._spent = np.zeros(self.count)
        self._bits = []
        self._previous = np.zeros(self.count, np.int64)
        self._lowered = np.zeros(self.count, np.int64)
        self._pass_forced()
        self._begun = self._spent
        return self._observe()

    def masks(self) -> NDArray[np.bool_]:
        """Which indices leave the budget reachable, shape (N, K); all where nothing is decided."""
        if not self.running:
            return np.ones((self.count, len(self.candidates)), np.bool_)
        return self._ledger.feasible(self._next, self._spent, self._weight)

    def masks_of_all(self) -> NDArray[np.bool_]:
        """The same for all decisions at once, shape (N, D * K).

        An index is allowed where the cheapest bits elsewhere keep to the budget; of several
        allowed ones, later decisions may still have to be lowered.
        """
        rows = [self._ledger.feasible_alone(decision) for decision in self.plan.decisions]
        return np.tile(np.concatenate(rows), (self.count, 1))

    def decide(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], Finished | None]:
        """Take decisions in each episode.

        Args:
            actions: indices into the candidates, shape (N, decisions to take), each 0 to K - 1; an
                index that would make the budget unreachable is lowered to the nearest that does
                not.

        Returns:
            Observations after the last of these decisions (N, features), rewards (N,), and what is
            known at the end where this is the end.

        Raises:
            RuntimeError: the episodes have ended, or not begun.
        """
        if not self.running:
            raise RuntimeError("step: the episode has ended or not begun; call reset")
        before = self.task.potential(self._spent)
        for column in actions.T:
            self._decide(column)
        if self._decision < self.decisions:
            return self._observe(), self.task.potential(self._spent) - before, None
        rewards, finished = self._finish()
        return self._observe(), rewards + self.task.potential(self._begun) - before, finished

    def _decide(self, actions: NDArray[np.int64]) -> None:
        distance = np.abs(np.arange(len(self.candidates))[None, :] - actions[:, None])
        # of two that are as near, the lower one comes first
        executed = np.where(self.masks(), distance, len(self.candidates)).argmin(1)
        self._lowered += executed != actions
        self._previous = np.array(self.candidates)[executed]
        self._settle(executed)
        self._decision += 1
        self._pass_forced()

    def _finish(self) -> tuple[NDArray[np.float64], Finished]:
        assert self._rollout is not None
        outcome = self._rollout.outcome()
        names = tuple(spec.name for spec in self.problem.layers)
        costs = {name: self._total(table) for name, table in self._cost_tables.items()}
        rewards = self.task.reward(outcome, costs)
        bits = np.stack(self._bits, 1)
        return rewards, Finished(names, bits, outcome, costs, self._lowered.copy())

    def _total(self, tables: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """The sum over layers, added one by one so that it does not depend on N to the last bit."""
        total = np.zeros(self.count)
        for spec, table, row in zip(self.problem.layers, tables, self._bits, strict=True):
            total += table[
                np.searchsorted(self.problem.candidates[spec.name], row[:, 0]),
                np.searchsorted(self.problem.activation_candidates[spec.name], row[:, 1]),
            ]
        return total

    def _pass_forced(self) -> None:
        """Settle what leaves no choice, up to the next decision, or the end."""
        decisions = self.plan.decisions
        end = Decision(len(self.problem.layers), WEIGHT)
        following = decisions[self._decision] if self._decision < len(decisions) else end
        while self._next != following:
            if self._next.part == WEIGHT:
                self._settle(np.zeros(self.count, np.int64))
            else:
                self._settle(self.plan.allowed[self._next.layer][self._weight].argmax(1))

    def _settle(self, positions: NDArray[np.int64]) -> None:
        """Give the weights or the activation at hand the bits at these positions."""
        costs = self._ledger.costs(self._next, self._weight)
        self._spent = self._spent + costs[np.arange(self.count), positions]
        layer = self._next.layer
        if self._next.part == WEIGHT:
            self._weight = positions
            self._next = Decision(layer, ACTIVATION)
            return
        assert self._rollout is not None
        name = self.problem.layers[layer].name
        weights = np.array(self.problem.candidates[name])[self._weight]
        activations = np.array(self.problem.activation_candidates[name])[positions]
        bits = np.stack([weights, activations], 1)
        self._rollout.choose(bits)
        self._bits.append(bits)
        self._next = Decision(layer + 1, WEIGHT)

    def _observe(self) -> NDArray[np.float32]:
        assert self._rollout is not None
        over = self._decision == self.decisions
        activation = np.zeros((self.count, 4), np.float32) if over else self._rollout.activation()
        slack = self._ledger.slack(self._next, self._spent, self._weight)
        return self.observer.observe(
            self._decision, self._quality, activation, self._spent, slack, self._previous
        )
