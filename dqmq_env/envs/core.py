"""The one implementation of the environment: N episodes in step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dqmq_env.costs import Bops, Cost, Size, layer_table
from dqmq_env.problem.protocol import Outcome, Problem, Rollout
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import BitAssignment, LayerBits
from dqmq_env.task.budget import Budget, Ledger
from dqmq_env.task.observation import Observer
from dqmq_env.task.reward import NoPotential, Potential, Reward, WeightedReward


@dataclass(frozen=True)
class Task:
    """What is rewarded, and which budget holds.

    Attributes:
        reward: judges finished episodes.
        budget: holds for every finished episode.
        potential: spreads the reward over the steps without changing returns.
    """

    reward: Reward = field(default_factory=WeightedReward)
    budget: Budget = field(default_factory=lambda: Budget(Bops()))
    potential: Potential = field(default_factory=NoPotential)


@dataclass(frozen=True)
class Finished:
    """What is known at the end of N episodes.

    Attributes:
        assignments: as executed.
        outcome: accuracy and loss.
        costs: name to fractions of the cost at 8 bits, shape (N,).
        lowered: number of actions that the budget lowered, shape (N,).
    """

    assignments: tuple[BitAssignment, ...]
    outcome: Outcome
    costs: dict[str, NDArray[np.float64]]
    lowered: NDArray[np.int64]


class BatchedCore:
    """N episodes that decide the bits of the same layer at the same time.

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
        self.observer = Observer(problem)
        self._ledger = Ledger(problem, task.budget)
        costs: tuple[Cost, ...] = (Size(), Bops())
        self._cost_tables = {
            cost.name: layer_table(cost, problem.layers, problem.candidates) for cost in costs
        }
        self._rollout: Rollout | None = None
        self._quality = np.zeros((count, 6), np.float32)
        self._conditions: tuple[Condition, ...] = ()
        self._layer = 0
        self._decision = 0
        self._spent = np.zeros(count)
        self._begun = self._spent
        self._bits: list[NDArray[np.int64]] = []
        self._lowered = np.zeros(count, np.int64)

    @property
    def observation_space(self) -> Any:
        """The space of one episode's observation."""
        features = len(self.observer.layout.names)
        return gym.spaces.Box(0.0, 1.0, (features,), np.float32)

    @property
    def candidates(self) -> tuple[int, ...]:
        """The candidate bits that an action is an index into."""
        return self.observer.layout.candidates

    @property
    def decisions(self) -> int:
        """Number of steps of an episode."""
        return len(self.observer.layers)

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
        """The budgeted cost of the layers so far, as a fraction of the whole, shape (N,)."""
        return self._spent.copy()

    @property
    def images(self) -> NDArray[np.uint8]:
        """The first images of each episode, shape (N, n, H, W, C)."""
        assert self._rollout is not None
        return self._rollout.images

    def bits(self, episode: int) -> tuple[int | None, ...]:
        """Bits of every layer of an episode, in forward order, ``None`` where undecided."""
        decided = [int(row[episode]) for row in self._bits]
        return tuple(decided) + (None,) * (len(self.problem.layers) - len(decided))

    def reset(self, conditions: Sequence[Condition], batches: Sequence[int]) -> NDArray[np.float32]:
        """Begin N episodes; return observations of shape (N, features)."""
        self._rollout = self.problem.start(conditions, batches)
        self._conditions = tuple(conditions)
        self._quality = self._rollout.quality
        self._layer = self._decision = 0
        self._spent = np.zeros(self.count)
        self._bits = []
        self._lowered = np.zeros(self.count, np.int64)
        self._pass_pinned_layers()
        self._begun = self._spent
        return self._observe()

    def masks(self) -> NDArray[np.bool_]:
        """Which indices leave the budget reachable, shape (N, K); all where nothing is decided."""
        if not self.running:
            return np.ones((self.count, len(self.candidates)), np.bool_)
        return self._ledger.feasible(self._layer, self._spent)

    def masks_of_all(self) -> NDArray[np.bool_]:
        """The same for all decisions at once, shape (N, D * K).

        An index is allowed where the lowest bits elsewhere keep to the budget; of several allowed
        ones, later decisions may still have to be lowered.
        """
        rows = [self._ledger.feasible_alone(layer) for layer in self.observer.layers]
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
        feasible = self.masks()
        at_or_below = feasible & (np.arange(feasible.shape[1])[None, :] <= actions[:, None])
        executed = at_or_below.shape[1] - 1 - at_or_below[:, ::-1].argmax(1)
        self._lowered += executed != actions
        self._take(np.array(self.candidates)[executed], executed)
        self._decision += 1
        self._pass_pinned_layers()

    def _finish(self) -> tuple[NDArray[np.float64], Finished]:
        assert self._rollout is not None
        outcome = self._rollout.outcome()
        names = [spec.name for spec in self.problem.layers]
        widths = np.stack(self._bits, 1)
        assignments = tuple(
            BitAssignment({n: (int(b), int(b)) for n, b in zip(names, row, strict=True)})
            for row in widths
        )
        costs = {name: self._total(table, widths) for name, table in self._cost_tables.items()}
        rewards = self.task.reward(outcome, costs)
        return rewards, Finished(assignments, outcome, costs, self._lowered.copy())

    def _total(
        self, table: list[NDArray[np.float64]], widths: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The sum over layers, added one by one so that it does not depend on N to the last bit."""
        total = np.zeros(self.count)
        for layer, spec in enumerate(self.problem.layers):
            candidates = self.problem.candidates[spec.name]
            total += table[layer][np.searchsorted(candidates, widths[:, layer])]
        return total

    def _pass_pinned_layers(self) -> None:
        """Compute the layers that leave no choice, up to the next that does, or the end."""
        decided = self.observer.layers
        following = decided[self._decision] if self._decision < len(decided) else None
        end = len(self.problem.layers) if following is None else following
        while self._layer < end:
            (width,) = self.problem.candidates[self.problem.layers[self._layer].name]
            self._take(np.full(self.count, width), np.zeros(self.count, np.int64))

    def _take(self, widths: NDArray[np.int64], positions: NDArray[np.int64]) -> None:
        assert self._rollout is not None
        self._rollout.choose([LayerBits(int(width), int(width)) for width in widths])
        self._spent = self._spent + self._ledger.costs(self._layer)[positions]
        self._bits.append(widths)
        self._layer += 1

    def _observe(self) -> NDArray[np.float32]:
        assert self._rollout is not None
        over = self._decision == self.decisions
        activation = np.zeros((self.count, 4), np.float32) if over else self._rollout.activation()
        previous = self._previous()
        slack = self._ledger.slack(self._layer, self._spent)
        return self.observer.observe(
            self._decision, self._quality, activation, self._spent, slack, previous
        )

    def _previous(self) -> NDArray[np.int64]:
        if self._decision == 0:
            return np.zeros(self.count, np.int64)
        return self._bits[self.observer.layers[self._decision - 1]]
