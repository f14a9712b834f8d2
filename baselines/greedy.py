"""Greedy search: from the narrowest bits up, one layer at a time, by measured loss."""

import math
from dataclasses import dataclass

from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.proposals import Proposals, run_proposals
from dqmq_env.search.rule import RuleAgent
from dqmq_env.search.space import Places, Space
from dqmq_env.search.target import targets_of
from dqmq_env.task.task import Task


@dataclass(frozen=True)
class GreedySearch:
    """Raises the layer whose next option lowers the loss most for what it costs, again and again.

    It starts with the cheapest option of every layer and ends where no raise keeps to the budget;
    the assignment of the highest reward on the way is taken. One target takes up to about half the
    square of the number of layers, times the options of each.

    Attributes:
        scope: ``condition`` for an assignment for each condition, ``all`` for a single one.
    """

    scope: str = "condition"

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> RuleAgent:
        """See :class:`~dqmq_env.search.protocol.Searcher`; the seed changes nothing."""
        space = Space(problem, task)
        targets = targets_of(self.scope, problem, task)
        rule = run_proposals([(target, climb(space)) for target in targets])
        return RuleAgent(rule, problem, task)


def climb(space: Space) -> Proposals:
    """Proposes every raise by one option of one layer, then goes on from the best of them."""
    at = space.narrowest()
    loss = (yield space.assignment(at)).loss
    while raises := _raises(space, at):
        spent, best, following = space.cost(at), -math.inf, (at, loss)
        for places in raises:
            found = (yield space.assignment(places)).loss
            gain = (loss - found) / (space.cost(places) - spent)
            if gain > best:
                best, following = gain, (places, found)
        at, loss = following
    return None


def _raises(space: Space, at: Places) -> list[Places]:
    """All that differ in one layer, which takes the next dearer option, and keep to the budget."""
    found = []
    for layer, costs in enumerate(space.costs):
        dearer = [place for place in range(len(costs)) if costs[place] > costs[at[layer]]]
        if not dearer:
            continue
        raised = at.copy()
        raised[layer] = min(dearer, key=lambda place: (costs[place], place))
        if space.fits(raised):
            found.append(raised)
    return found
