"""Train a quantised network at bits that are settled: one assignment, or one for each condition."""

from collections.abc import Iterable
from pathlib import Path
from typing import overload

import torch

from dqmq_env.errors import SettingError
from dqmq_env.evaluation.deployed import StaticNetwork
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.condition import CLEAN, Condition
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.scheme import DEFAULT_SCHEME, Scheme
from dqmq_env.search.rule import Rule
from dqmq_env.training.loop import Callback, Schedule, Trainer
from dqmq_env.training.objective import RuleObjective, StaticObjective


class RuleNetwork:
    """One quantised network whose bits follow the condition, which has to be told.

    Weights, steps and batch normalisation are shared by all conditions.

    Args:
        network: trained.
        rule: see :func:`assignment_under` for conditions that it does not know.
        normalize: from images to the network's input.
    """

    def __init__(self, network: QuantizedNetwork, rule: Rule, normalize: Normalize) -> None:
        self.rule = rule
        self.network = network
        self.normalize = normalize

    def under(self, condition: Condition | str) -> StaticNetwork:
        """The network for images under ``condition``.

        Raises:
            ConditionError: there is no such condition.
            SettingError: the rule says nothing about it.
        """
        assignment = assignment_under(self.rule, condition)
        return StaticNetwork(self.network, assignment, self.normalize)


@overload
def fine_tune(
    problem: NetworkProblem,
    bits: BitAssignment,
    schedule: Schedule,
    folder: Path | None = None,
    callback: Callback | None = None,
    progress_bar: bool = False,
    scheme: Scheme = DEFAULT_SCHEME,
    device: torch.device | str = "cpu",
) -> StaticNetwork: ...


@overload
def fine_tune(
    problem: NetworkProblem,
    bits: Rule,
    schedule: Schedule,
    folder: Path | None = None,
    callback: Callback | None = None,
    progress_bar: bool = False,
    scheme: Scheme = DEFAULT_SCHEME,
    device: torch.device | str = "cpu",
) -> RuleNetwork: ...


def fine_tune(
    problem: NetworkProblem,
    bits: BitAssignment | Rule,
    schedule: Schedule,
    folder: Path | None = None,
    callback: Callback | None = None,
    progress_bar: bool = False,
    scheme: Scheme = DEFAULT_SCHEME,
    device: torch.device | str = "cpu",
) -> StaticNetwork | RuleNetwork:
    """Train the problem's network at these bits, on images of mixed quality.

    Under a rule, one network is trained, each image at the bits of its own condition. A rule that
    gives all conditions the same assignment trains exactly as that assignment does.

    Args:
        problem: gives the float network, images and mixture.
        bits: an assignment, or a rule (see :func:`assignment_under` for the conditions of the
            mixture that it does not know).
        schedule: how long and how fast.
        folder: of resumable states and TensorBoard events; ``None`` keeps nothing. A run that was
            stopped goes on from there, and ends with the same numbers.
        callback: see :data:`~dqmq_env.training.loop.Callback`.
        progress_bar: show steps, rate and time left.
        scheme: how the network is quantised meanwhile.
        device: where it is trained; what is returned is on the CPU.

    Raises:
        AssignmentError: bits do not fit the layers.
        SettingError: the rule says nothing about a condition of the mixture.
        CheckpointError: the folder holds a run with other settings.
    """
    network = problem.trainable(scheme)
    objective: StaticObjective | RuleObjective
    if isinstance(bits, Rule):
        rule = _covering(bits, problem.mixture.conditions)
        _check(problem, network, set(rule.values()))
        objective = RuleObjective(rule, scheme)
    else:
        _check(problem, network, [bits])
        objective = StaticObjective(bits, scheme)
    trainer = Trainer(problem, network, objective, schedule, folder, device, "fine-tune")
    trainer.run(callback, progress_bar)
    network.cpu()
    if isinstance(bits, Rule):
        return RuleNetwork(network, bits, problem.normalize)
    return StaticNetwork(network, bits, problem.normalize)


def assignment_under(rule: Rule, condition: Condition | str) -> BitAssignment:
    """What a rule says of a condition, or of the one like it that it knows.

    That is the same corruption at the nearest severity, of two equally near the heavier; where the
    rule does not know the corruption at all, it is clean.

    Raises:
        ConditionError: there is no such condition.
        SettingError: the rule knows neither the corruption nor clean.
    """
    condition = Condition.parse(condition)
    alike = [known for known in rule if known.corruption == condition.corruption]
    if alike:
        return rule[min(alike, key=lambda known: _distance(known, condition))]
    if CLEAN not in rule:
        raise SettingError(
            f"rule: got {[str(known) for known in rule]}, allowed is a rule for "
            f"{condition.corruption} or {CLEAN}"
        )
    return rule[CLEAN]


def _distance(known: Condition, condition: Condition) -> tuple[int, int]:
    return abs(known.severity - condition.severity), -known.severity


def _covering(rule: Rule, conditions: Iterable[Condition]) -> Rule:
    """What the rule says of each of the conditions."""
    return Rule({condition: assignment_under(rule, condition) for condition in conditions})


@torch.no_grad()
def _check(
    problem: NetworkProblem, network: QuantizedNetwork, assignments: Iterable[BitAssignment]
) -> None:
    """Pass an image at each assignment, so that nothing is begun at bits that do not fit."""
    x = problem.normalize(problem.calibration[:1])
    for assignment in assignments:
        network(x, assignment)
