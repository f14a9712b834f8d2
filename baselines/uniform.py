"""Uniform bits: the same width in every layer, topped up where the budget leaves room."""

from dataclasses import dataclass

from baselines.option_errors import option_errors
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.proposals import Proposals, run_proposals
from dqmq_env.search.rule import Rule, RuleAgent
from dqmq_env.search.space import Places, Space
from dqmq_env.search.target import targets_of
from dqmq_env.task.task import Task


@dataclass(frozen=True)
class Uniform:
    """Uniform bits, without a search or with as little of one as there can be.

    Where ``bits`` is given, every layer gets that width and nothing is evaluated. Otherwise each
    width that keeps to the budget is tried as it is and topped up, and the highest reward decides.

    Attributes:
        scope: ``condition`` for an assignment for each condition, ``all`` for a single one.
        bits: the one width.
    """

    scope: str = "all"
    bits: int | None = None

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> RuleAgent:
        """See :class:`~dqmq_env.search.protocol.Searcher`; the seed changes nothing.

        Raises:
            BudgetError: ``bits`` does not keep to the budget.
        """
        space = Space(problem, task)
        if self.bits is not None:
            fixed = space.assignment(space.uniform(self.bits))
            return RuleAgent(Rule.static(problem, fixed), problem, task)
        targets = targets_of(self.scope, problem, task)
        rule = run_proposals([(target, _propose(problem, space)) for target in targets])
        return RuleAgent(rule, problem, task)


def top_up(problem: MeteredProblem, space: Space, places: Places) -> Places:
    """Raise one layer after another until no raise keeps to the budget.

    Each time the one whose next option lowers the relative error of its weights (of its input,
    where weights leave no choice) most for what it costs; no images are looked at.

    Args:
        problem: gives the errors.
        space: gives options and budget.
        places: where to begin.
    """
    named = zip(space.options, space.names, strict=True)
    errors = [option_errors(problem, options, name) for options, name in named]
    at = places.copy()
    while True:
        raises = []
        for layer, costs in enumerate(space.costs):
            raised = at.copy()
            raised[layer] += 1
            if raised[layer] < len(costs) and space.fits(raised):
                more = costs[raised[layer]] - costs[at[layer]]
                less = errors[layer][at[layer]] - errors[layer][raised[layer]]
                raises.append((less / max(more, 1e-12), layer))
        if not raises:
            return at
        at[max(raises, key=lambda own: own[0])[1]] += 1


def _propose(problem: MeteredProblem, space: Space) -> Proposals:
    """Proposes the uniform widths that keep to the budget, and each of them topped up."""
    tried = set()
    for plain in space.uniforms():
        for places in (plain, top_up(problem, space, plain)):
            if tuple(places) not in tried:
                tried.add(tuple(places))
                yield space.assignment(places)
    return None
