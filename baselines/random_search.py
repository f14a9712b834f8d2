"""Random search: the best of assignments drawn from the environment's masks."""

from dataclasses import dataclass

import numpy as np

from dqmq_env.randomness import numpy_generator
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.proposals import Proposals, run_proposals
from dqmq_env.search.rule import RuleAgent
from dqmq_env.search.space import Space
from dqmq_env.search.target import targets_of
from dqmq_env.task.task import Task


@dataclass(frozen=True)
class RandomSearch:
    """Draws assignments until the evaluations are spent, none of them twice.

    Attributes:
        scope: ``condition`` for an assignment for each condition, ``all`` for a single one.
    """

    scope: str = "condition"

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> RuleAgent:
        """See :class:`~dqmq_env.search.protocol.Searcher`."""
        space = Space(problem, task)
        searches = [
            (target, propose_at_random(space, numpy_generator(seed, "random search", number)))
            for number, target in enumerate(targets_of(self.scope, problem, task))
        ]
        return RuleAgent(run_proposals(searches), problem, task)


def propose_at_random(space: Space, generator: np.random.Generator) -> Proposals:
    """Proposes random assignments, each once, until nothing new turns up."""
    seen: set[tuple[int, ...]] = set()
    while (places := unseen(space, generator, seen)) is not None:
        yield space.assignment(places)
    return None


def unseen(
    space: Space, generator: np.random.Generator, seen: set[tuple[int, ...]], tries: int = 100
) -> tuple[int, ...] | None:
    """Random places new to ``seen``, which gets them; ``None`` after many tries."""
    for _ in range(tries):
        places = tuple(space.random(generator).tolist())
        if places not in seen:
            seen.add(places)
            return places
    return None
