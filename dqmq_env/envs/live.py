"""The one implementation of the environment: episodes of any problem, computed as they go."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dqmq_env.envs.core import Core
from dqmq_env.envs.episodes import Finished, Starts, figures_of
from dqmq_env.envs.play import Episode, EpisodeBatch, Observation, refuse_to_step
from dqmq_env.problem.protocol import Rollout
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.task.budget import pair_tables
from dqmq_env.task.decisions import ACTIVATION, WEIGHT, Decision


class LiveBatch(EpisodeBatch):
    """N episodes over any problem.

    Args:
        core: the rules.
        count: N.
    """

    def __init__(self, core: Core, count: int) -> None:
        self._core = core
        self._count = count
        self._cost_tables = {
            cost.name: pair_tables(cost, core.problem, core.plan) for cost in core.problem.costs
        }
        self._rollout: Rollout | None = None
        self._quality = np.zeros((count, 6), np.float32)
        self._next = Decision(0, WEIGHT)
        self._decision = 0
        self._spent = np.zeros(count)
        self._begun = self._spent
        self._weight = np.zeros(count, np.int64)
        self._bits: list[NDArray[np.int64]] = []
        self._previous = np.zeros(count, np.int64)
        self._lowered = np.zeros(count, np.int64)

    @property
    def running(self) -> bool:
        """Whether a reset was made and decisions are left."""
        return self._rollout is not None and self._decision < self._core.decisions

    @property
    def settled(self) -> int:
        """Number of layers that have their bits."""
        return len(self._bits)

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
        return tuple(decided) + (None,) * (len(self._core.problem.layers) - len(decided))

    def reset(self, starts: Starts) -> NDArray[np.float32]:
        """See :class:`~dqmq_env.envs.play.EpisodeBatch`."""
        conditions = [starts.conditions[row] for row in starts.rows]
        self._rollout = self._core.problem.start(conditions, starts.batches.tolist())
        self._quality = self._rollout.quality
        self._next, self._decision = Decision(0, WEIGHT), 0
        self._spent = np.zeros(self._count)
        self._bits = []
        self._previous = np.zeros(self._count, np.int64)
        self._lowered = np.zeros(self._count, np.int64)
        self._pass_forced()
        self._begun = self._spent
        return self._observe()

    def masks(self) -> NDArray[np.bool_]:
        """See :class:`~dqmq_env.envs.play.EpisodeBatch`."""
        if not self.running:
            return np.ones((self._count, len(self._core.candidates)), np.bool_)
        return self._core.ledger.feasible(self._next, self._spent, self._weight)

    def decide(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], Finished | None]:
        """See :class:`~dqmq_env.envs.play.EpisodeBatch`."""
        if not self.running:
            raise refuse_to_step()
        before = self._core.task.potential(self._spent)
        for column in actions.T:
            self._decide(column)
        if self._decision < self._core.decisions:
            return self._observe(), self._core.task.potential(self._spent) - before, None
        rewards, finished = self._finish()
        return self._observe(), rewards + self._core.task.potential(self._begun) - before, finished

    def _decide(self, actions: NDArray[np.int64]) -> None:
        distance = np.abs(np.arange(len(self._core.candidates))[None, :] - actions[:, None])
        # of two that are as near, the lower one comes first
        executed = np.where(self.masks(), distance, len(self._core.candidates)).argmin(1)
        self._lowered += executed != actions
        self._previous = np.array(self._core.candidates)[executed]
        self._settle(executed)
        self._decision += 1
        self._pass_forced()

    def _finish(self) -> tuple[NDArray[np.float64], Finished]:
        assert self._rollout is not None
        outcome = self._rollout.outcome()
        names = tuple(spec.name for spec in self._core.problem.layers)
        costs = {name: self._total(table) for name, table in self._cost_tables.items()}
        rewards = self._core.task.reward(outcome, costs)
        bits = np.stack(self._bits, 1)
        return rewards, Finished(names, bits, outcome, costs, self._lowered.copy())

    def _total(self, tables: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """The sum over layers, added one by one so that it does not depend on N to the last bit."""
        total = np.zeros(self._count)
        for spec, table, row in zip(self._core.problem.layers, tables, self._bits, strict=True):
            total += table[
                np.searchsorted(self._core.problem.candidates[spec.name], row[:, 0]),
                np.searchsorted(self._core.problem.activation_candidates[spec.name], row[:, 1]),
            ]
        return total

    def _pass_forced(self) -> None:
        """Settle what leaves no choice, up to the next decision, or the end."""
        decisions = self._core.plan.decisions
        end = Decision(len(self._core.problem.layers), WEIGHT)
        following = decisions[self._decision] if self._decision < len(decisions) else end
        while self._next != following:
            if self._next.part == WEIGHT:
                self._settle(np.zeros(self._count, np.int64))
            else:
                self._settle(self._core.plan.allowed[self._next.layer][self._weight].argmax(1))

    def _settle(self, positions: NDArray[np.int64]) -> None:
        """Give the weights or the activation at hand the bits at these positions."""
        costs = self._core.ledger.costs(self._next, self._weight)
        self._spent = self._spent + costs[np.arange(self._count), positions]
        layer = self._next.layer
        if self._next.part == WEIGHT:
            self._weight = positions
            self._next = Decision(layer, ACTIVATION)
            return
        assert self._rollout is not None
        name = self._core.problem.layers[layer].name
        weights = np.array(self._core.problem.candidates[name])[self._weight]
        activations = np.array(self._core.problem.activation_candidates[name])[positions]
        bits = np.stack([weights, activations], 1)
        self._rollout.choose(bits)
        self._bits.append(bits)
        self._next = Decision(layer + 1, WEIGHT)

    def _observe(self) -> NDArray[np.float32]:
        assert self._rollout is not None
        over = self._decision == self._core.decisions
        activation = np.zeros((self._count, 4), np.float32) if over else self._rollout.activation()
        slack = self._core.ledger.slack(self._next, self._spent, self._weight)
        return self._core.observer.observe(
            self._decision, self._quality, activation, self._spent, slack, self._previous
        )


class LiveEpisode(Episode):
    """One episode at a time over any problem.

    Args:
        core: the rules.
    """

    def __init__(self, core: Core) -> None:
        self._batch = LiveBatch(core, 1)

    @property
    def spent(self) -> float:
        """See :class:`~dqmq_env.envs.play.Episode`."""
        return float(self._batch.spent[0])

    @property
    def images(self) -> NDArray[np.uint8]:
        """See :class:`~dqmq_env.envs.play.Episode`."""
        return np.asarray(self._batch.images[0])

    @property
    def bits(self) -> tuple[LayerBits | None, ...]:
        """See :class:`~dqmq_env.envs.play.Episode`."""
        return self._batch.bits(0)

    def begin(self, condition: Condition, batch: int) -> Observation:
        """See :class:`~dqmq_env.envs.play.Episode`."""
        return np.asarray(self._batch.reset(Starts.of([condition], [batch]))[0])

    def mask(self) -> NDArray[np.bool_]:
        """See :class:`~dqmq_env.envs.play.Episode`."""
        return np.asarray(self._batch.masks()[0])

    def decide(self, actions: Sequence[int]) -> tuple[Observation, float, dict[str, Any] | None]:
        """See :class:`~dqmq_env.envs.play.Episode`."""
        observations, rewards, finished = self._batch.decide(np.array([actions]))
        info = None if finished is None else figures_of(finished.figures(), 0)
        return observations[0], float(rewards[0]), info
