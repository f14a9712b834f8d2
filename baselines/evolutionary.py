"""Evolutionary search: good assignments are changed a little, the oldest ones die."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from baselines.random_search import unseen
from dqmq_env.errors import SettingError
from dqmq_env.randomness import numpy_generator
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.proposals import Proposals, run_proposals
from dqmq_env.search.rule import RuleAgent
from dqmq_env.search.space import Places, Space
from dqmq_env.search.target import targets_of
from dqmq_env.task.task import Task

_TRIES = 50


@dataclass(frozen=True)
class EvolutionarySearch:
    """Regularised evolution (Real et al. 2019, algorithm 1) with crossover.

    Attributes:
        scope: ``condition`` for an assignment for each condition, ``all`` for a single one.
        population: number of assignments alive.
        tournament: number of them among which the best becomes a parent.
        crossover: how often a child has a second parent, in [0, 1]; it has each layer from one of
            the two.

    Raises:
        SettingError: a number is out of range.
    """

    scope: str = "condition"
    population: int = 24
    tournament: int = 6
    crossover: float = 0.3

    def __post_init__(self) -> None:
        if not 1 <= self.tournament <= self.population:
            raise SettingError(
                f"tournament: got {self.tournament}, allowed are 1 to population {self.population}"
            )
        if not 0 <= self.crossover <= 1:
            raise SettingError(f"crossover: got {self.crossover}, allowed are 0 to 1")

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> RuleAgent:
        """See :class:`~dqmq_env.search.protocol.Searcher`."""
        space = Space(problem, task)
        searches = [
            (target, self._evolve(space, numpy_generator(seed, "evolution", number)))
            for number, target in enumerate(targets_of(self.scope, problem, task))
        ]
        return RuleAgent(run_proposals(searches), problem, task)

    def _evolve(self, space: Space, generator: np.random.Generator) -> Proposals:
        """Proposes random assignments, then children of the living, each once."""
        alive: deque[tuple[float, tuple[int, ...]]] = deque(maxlen=self.population)
        seen: set[tuple[int, ...]] = set()
        while True:
            places = None
            if len(alive) == self.population:
                places = self._child(space, list(alive), generator, seen)
            if places is None:
                places = unseen(space, generator, seen)
            if places is None:
                return None
            answer = yield space.assignment(places)
            alive.append((answer.reward, places))

    def _child(
        self,
        space: Space,
        alive: list[tuple[float, tuple[int, ...]]],
        generator: np.random.Generator,
        seen: set[tuple[int, ...]],
    ) -> tuple[int, ...] | None:
        """A new assignment near one or two good ones, lowered to the budget where needed."""
        for _ in range(_TRIES):
            child = self._parent(alive, generator)
            if generator.random() < self.crossover:
                other = self._parent(alive, generator)
                child = np.where(generator.random(len(child)) < 0.5, child, other)
            layer = int(generator.integers(len(child)))
            child[layer] = generator.integers(space.sizes[layer])
            places = tuple(space.lowered(child).tolist())
            if places not in seen:
                seen.add(places)
                return places
        return None

    def _parent(
        self, alive: list[tuple[float, tuple[int, ...]]], generator: np.random.Generator
    ) -> Places:
        """The best of some of the living."""
        drawn = generator.choice(len(alive), self.tournament, replace=False)
        return np.array(max((alive[number] for number in drawn), key=lambda own: own[0])[1])
