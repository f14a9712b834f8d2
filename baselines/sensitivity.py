"""Measured sensitivity: what each layer does to the loss alone decides by an integer programme."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baselines.budget_sweep import propose_each, sweep
from baselines.exchange import CRITERIA, Forecast, Rows, propose_exchanges
from dqmq_env.errors import SearchError, SettingError
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.proposals import Proposals, run_proposals
from dqmq_env.search.rule import RuleAgent
from dqmq_env.search.space import Places, Space
from dqmq_env.search.target import Answer, Target, targets_of
from dqmq_env.task.task import Task

_REFINEMENTS = ("exchange", "none")


@dataclass(frozen=True)
class Measured:
    """What each option of each decided layer alone does, all others at their widest.

    Attributes:
        widest: how all layers at their widest do.
        loss: by how much the mean loss rises, in nats; below zero where it falls.
        accuracy: by how much the accuracy rises; below zero where it falls.
    """

    widest: Answer
    loss: Rows
    accuracy: Rows

    def sensitivity(self, criterion: str) -> Rows:
        """The harm of each option: what the loss rises by, or what the accuracy falls by."""
        return self.loss if criterion == "loss" else [-own for own in self.accuracy]


@dataclass(frozen=True)
class SensitivityILP:
    """Measures the sensitivity of layers, then solves an integer programme, then looks around.

    In the manner of Sony's Model Compression Toolkit: the network is evaluated with all layers at
    their widest, and once for each narrower option of each layer (:func:`measure`); an assignment
    is taken to do the harm of its options in sum, and that of the least harm is found exactly
    (:func:`~baselines.ilp.solve`). A change of a single layer may lower the loss; such a
    sensitivity below zero is kept as it is. As a task may reward compression as well, the programme
    is solved under the task's budget and under smaller ones
    (:func:`~baselines.budget_sweep.sweep`), and evaluations decide, the most promising first. Those
    that are left refine what was found (:func:`~baselines.exchange.propose_exchanges`).

    Measuring takes one evaluation of each target for each option of each layer but its widest, and
    one more. Where weights and activations are decided separately it takes one for each width of
    the two, and pairs get the sum.

    Attributes:
        scope: ``condition`` for an assignment for each condition, ``all`` for a single one.
        criterion: what is measured, ``loss`` or ``accuracy``.
        budgets: number of budgets that the programme is solved under.
        refine: ``exchange`` for a local search with the evaluations left, or ``none``.

    Raises:
        SettingError: a setting is not allowed.
    """

    scope: str = "condition"
    criterion: str = "loss"
    budgets: int = 16
    refine: str = "exchange"

    def __post_init__(self) -> None:
        _check("criterion", self.criterion, tuple(CRITERIA))
        _check("refine", self.refine, _REFINEMENTS)
        if self.budgets < 1:
            raise SettingError(f"budgets: got {self.budgets}, allowed are 1 and more")

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> RuleAgent:
        """See :class:`~dqmq_env.search.protocol.Searcher`; the seed changes nothing.

        Raises:
            SearchError: there are too few evaluations to measure everything and try something.
        """
        space = Space(problem, task)
        targets = targets_of(self.scope, problem, task)
        price = sum(target.price for target in targets)
        needed = price * (looks(space) + 1)
        if needed > problem.left:
            raise SearchError(
                f"evaluations: got {problem.left}, allowed are {needed} and more: {looks(space)} "
                f"assignments are measured and one is tried, each on {price} batches"
            )
        measured = [_measure(target, space) for target in targets]
        searches = [
            (target, self._propose(target, space, own))
            for target, own in zip(targets, measured, strict=True)
        ]
        return RuleAgent(run_proposals(searches), problem, task)

    def _propose(self, target: Target, space: Space, measured: Measured) -> Proposals:
        harm = measured.sensitivity(self.criterion)
        found = sweep(space, harm, self.budgets)
        forecast = Forecast.of(
            target.problem,
            target.task,
            space,
            self.criterion,
            harm,
            measured.loss,
            measured.accuracy,
        )
        expected = forecast.rewards(_widest(space), measured.widest, np.stack(found))
        ordered = [found[place] for place in np.argsort(-expected, kind="stable")]
        if self.refine == "none":
            return propose_each(space, ordered)
        return propose_exchanges(space, forecast, ordered)


def measure(target: Target, space: Space, criterion: str = "loss") -> Rows:
    """The sensitivity of each option of each decided layer, all other layers at their widest.

    Args:
        target: what is evaluated; :func:`looks` times its price is spent.
        space: gives the options.
        criterion: ``loss`` for what the mean loss rises by, in nats; ``accuracy`` for what the
            accuracy falls by. Both may be below zero.

    Returns:
        For each decided layer in forward order, a number for each of its options; 0 for the widest.

    Raises:
        SettingError: there is no such criterion.
        SearchError: the evaluations are spent.
    """
    _check("criterion", criterion, tuple(CRITERIA))
    return _measure(target, space).sensitivity(criterion)


def looks(space: Space) -> int:
    """Number of assignments that are looked at to measure every option."""
    return 1 + sum(len(alone(options)) for options in space.options)


def _widest(space: Space) -> Places:
    """The last option of every layer; the dearest need not have the widest activations."""
    return np.array(space.sizes) - 1


def _measure(target: Target, space: Space) -> Measured:
    widest = _widest(space)
    base = target.look(space.assignment(widest))
    measured = Measured(base, [], [])
    for layer, options in enumerate(space.options):
        found = {}
        for place in alone(options):
            changed = widest.copy()
            changed[layer] = place
            answer = target.look(space.assignment(changed))
            found[place] = np.array([answer.loss - base.loss, answer.accuracy - base.accuracy])
        parts = [parts_of(options, place) for place in range(len(options))]
        rises = np.array([sum((found[part] for part in own), np.zeros(2)) for own in parts])
        measured.loss.append(rises[:, 0])
        measured.accuracy.append(rises[:, 1])
    return measured


def alone(options: Sequence[LayerBits]) -> list[int]:
    """The places of a layer's options that have to be looked at; see :func:`parts_of`."""
    return sorted({part for place in range(len(options)) for part in parts_of(options, place)})


def parts_of(options: Sequence[LayerBits], place: int) -> tuple[int, ...]:
    """The places of the options that the harm of one adds up of.

    That is narrower weights and a narrower activation, where both stand alone among the options;
    else the option itself; and nothing for the widest.
    """
    widest, own = options[-1], options[place]
    if own == widest:
        return ()
    halves = LayerBits(own.weight, widest.activation), LayerBits(widest.weight, own.activation)
    if own in halves or not all(half in options for half in halves):
        return (place,)
    return tuple(options.index(half) for half in halves)


def _check(argument: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingError(f"{argument}: got {value!r}, allowed are {list(allowed)}")
