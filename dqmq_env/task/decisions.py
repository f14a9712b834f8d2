"""Which decisions a network asks for: joint ones, or weights and activations in turn."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dqmq_env.errors import AssignmentError, SettingError
from dqmq_env.problem.protocol import Problem
from dqmq_env.quantization.candidates import joint_options

WEIGHT, ACTIVATION = 0, 1
"""The two halves of a layer's bits, in the order in which they are settled."""


class Decision(NamedTuple):
    """One choice of bits.

    Attributes:
        layer: its index in forward order.
        part: ``WEIGHT`` where the choice is about the weights, or about both jointly;
            ``ACTIVATION`` where it is about the activation that the layer receives.
    """

    layer: int
    part: int


class DecisionScheme(Protocol):
    """Says which pairs of weight bits and activation bits a layer may end with."""

    def allowed(
        self, candidates: tuple[int, ...], activation_candidates: tuple[int, ...]
    ) -> NDArray[np.bool_]:
        """The pairs that are allowed, shape (weight candidates, activation candidates).

        A weight decision is one between rows, an activation decision one inside a row; where a
        row leaves a single pair there is none.
        """
        ...


@dataclass(frozen=True)
class JointDecisions:
    """One decision for each layer: weights and activations get the same bits.

    Where the problem fixes the bits of activations, decisions are about the weights alone.
    """

    def allowed(
        self, candidates: tuple[int, ...], activation_candidates: tuple[int, ...]
    ) -> NDArray[np.bool_]:
        """See :class:`DecisionScheme`."""
        options = joint_options(candidates, activation_candidates)
        pairs = [[(w, a) in options for a in activation_candidates] for w in candidates]
        return np.array(pairs)


@dataclass(frozen=True)
class SeparateDecisions:
    """Two decisions for each layer, its weights and then its activation, as HAQ takes them."""

    def allowed(
        self, candidates: tuple[int, ...], activation_candidates: tuple[int, ...]
    ) -> NDArray[np.bool_]:
        """See :class:`DecisionScheme`."""
        return np.ones((len(candidates), len(activation_candidates)), np.bool_)


_SCHEMES: dict[str, DecisionScheme] = {
    "joint": JointDecisions(),
    "separate": SeparateDecisions(),
}


def scheme_by_name(name: str) -> DecisionScheme:
    """The scheme of that name: ``joint`` or ``separate``.

    Raises:
        SettingError: there is no such scheme.
    """
    if name not in _SCHEMES:
        raise SettingError(f"decisions: got {name!r}, allowed are {list(_SCHEMES)}")
    return _SCHEMES[name]


@dataclass(frozen=True, eq=False)
class Plan:
    """The decisions of an episode.

    Attributes:
        decisions: in order.
        candidates: the widths that each of them is between.
        allowed: for each layer, see :meth:`DecisionScheme.allowed`.
    """

    decisions: tuple[Decision, ...]
    candidates: tuple[int, ...]
    allowed: tuple[NDArray[np.bool_], ...]


def plan_of(problem: Problem, scheme: DecisionScheme) -> Plan:
    """The decisions that a problem asks for.

    Raises:
        AssignmentError: nothing leaves a choice, or choices differ in their candidates.
    """
    decisions: list[Decision] = []
    widths: set[tuple[int, ...]] = set()
    allowed = []
    for layer, spec in enumerate(problem.layers):
        weight = problem.candidates[spec.name]
        activation = problem.activation_candidates[spec.name]
        pairs = scheme.allowed(weight, activation)
        allowed.append(pairs)
        if len(weight) > 1:
            decisions.append(Decision(layer, WEIGHT))
            widths.add(weight)
        if pairs.sum(1).max() > 1:
            decisions.append(Decision(layer, ACTIVATION))
            widths.add(activation)
    if len(widths) != 1:
        raise AssignmentError(
            "candidates: allowed is one set of two or more widths, shared by all layers that have "
            f"a choice; got {sorted(widths)}"
        )
    return Plan(tuple(decisions), widths.pop(), tuple(allowed))
