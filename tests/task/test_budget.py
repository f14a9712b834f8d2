import itertools
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dqmq_env.costs import COSTS, Cost, Size, fraction
from dqmq_env.errors import BudgetError
from dqmq_env.quantization.assignment import BitAssignment, LayerBits
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.task.budget import Budget, Ledger, pair_tables
from dqmq_env.task.decisions import (
    ACTIVATION,
    WEIGHT,
    Decision,
    DecisionScheme,
    JointDecisions,
    SeparateDecisions,
    plan_of,
)

MakeStub = Callable[..., Any]
NOBODY = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Padded:
    """A cost that does not grow with bits: 4 are the dearest weights, 2 the dearest input."""

    name: str = "padded"

    def of(self, spec: LayerSpec, bits: LayerBits) -> float:
        return spec.macs * ({2: 3, 4: 9, 8: 5}[bits.weight] + {2: 8, 4: 1, 8: 4}[bits.activation])


@dataclass(frozen=True)
class NoNarrower:
    """A scheme whose choices depend on each other: inputs are not narrower than weights."""

    def allowed(
        self, candidates: tuple[int, ...], activation_candidates: tuple[int, ...]
    ) -> NDArray[np.bool_]:
        alone = len(activation_candidates) == 1
        return np.array([[alone or a >= w for a in activation_candidates] for w in candidates])


SCHEMES: dict[DecisionScheme, Callable[[int, int], bool]] = {
    JointDecisions(): operator.eq,
    SeparateDecisions(): lambda weight, activation: True,
    NoNarrower(): operator.le,
}
"""Schemes and the pairs that they allow where activations are not of one width."""


@dataclass(frozen=True)
class Case:
    """A problem, how it is decided, and all that can come of it, found by brute force.

    Attributes:
        totals: the bits that a whole network may end with, weights and activation of each layer in
            turn, to the fraction that they cost.
    """

    stub: Any
    scheme: DecisionScheme
    cost: Cost
    totals: dict[tuple[int, ...], float]

    @property
    def least(self) -> dict[tuple[int, ...], float]:
        """What the cheapest completion of each beginning costs, in all."""
        return self._of_beginnings(min)

    @property
    def most(self) -> dict[tuple[int, ...], float]:
        """What the dearest completion of each beginning costs, in all."""
        return self._of_beginnings(max)

    def ledger(self, budget: float) -> Ledger:
        return Ledger(self.stub, Budget(self.cost, budget), plan_of(self.stub, self.scheme))

    def widths(self, decision: Decision) -> tuple[int, ...]:
        name = self.stub.layers[decision.layer].name
        found: tuple[int, ...] = (self.stub.candidates, self.stub.activation_candidates)[
            decision.part
        ][name]
        return found

    def beginnings(self, decision: Decision) -> list[tuple[int, ...]]:
        """The bits that may be settled before a decision."""
        depth = 2 * decision.layer + decision.part
        return sorted({bits[:depth] for bits in self.totals})

    def settle(self, ledger: Ledger, bits: tuple[int, ...]) -> tuple[Any, Any]:
        """What a beginning costs so far, and the position of its last weight bits; (1,) each."""
        spent, weight = np.zeros(1), NOBODY
        for place, width in enumerate(bits):
            decision = Decision(*divmod(place, 2))
            position = self.widths(decision).index(width)
            spent = spent + ledger.costs(decision, weight)[:, position]
            weight = np.array([position]) if decision.part == WEIGHT else weight
        return spent, weight

    def _of_beginnings(self, best: Callable[[float, float], float]) -> dict[tuple[int, ...], float]:
        found: dict[tuple[int, ...], float] = {}
        for bits, total in self.totals.items():
            for depth in range(len(bits) + 1):
                known = found.get(bits[:depth], total)
                found[bits[:depth]] = best(known, total)
        return found


def make_case(stub: Any, scheme: DecisionScheme, cost: Cost) -> Case:
    choices = []
    for spec in stub.layers:
        weights, inputs = stub.candidates[spec.name], stub.activation_candidates[spec.name]
        fits, alone = SCHEMES[scheme], len(inputs) == 1
        choices.append([(w, a) for w in weights for a in inputs if alone or fits(w, a)])
    totals = {}
    for bits in itertools.product(*choices):
        layers = zip(stub.layers, bits, strict=True)
        assignment = BitAssignment({spec.name: pair for spec, pair in layers})
        totals[tuple(itertools.chain(*bits))] = fraction(cost, stub.layers, assignment)
    return Case(stub, scheme, cost, totals)


@st.composite
def cases(draw: st.DrawFn, make_stub: MakeStub) -> Case:
    """Joint and separate decisions, decisions about weights alone, pinned layers."""
    scheme = draw(st.sampled_from(list(SCHEMES)))
    number = st.integers(1, 1000)
    longest = 4 if isinstance(scheme, JointDecisions) else 3
    stub = make_stub(
        draw(st.lists(st.tuples(number, number), min_size=2, max_size=longest)),
        pinned=draw(st.sampled_from([None, {0: 8}, {1: 4}])),
        activation_bits=draw(st.sampled_from([None, (8,), (4,)])),
    )
    return make_case(stub, scheme, draw(st.sampled_from([*COSTS, Padded()])))


shares = st.floats(0, 1)


def between(case: Case, share: float) -> float:
    """A budget between the smallest reachable, at 0, and the largest that binds, at 1."""
    low, high = min(case.totals.values()), max(case.totals.values())
    return low + share * (high - low)


@settings(max_examples=60)
@given(data=st.data(), share=shares)
def test_a_choice_is_feasible_where_some_completion_keeps_to_the_budget(
    make_stub: MakeStub, data: st.DataObject, share: float
) -> None:
    case = data.draw(cases(make_stub))
    budget, least = between(case, share), case.least
    ledger = case.ledger(budget)
    for decision in plan_of(case.stub, case.scheme).decisions:
        for start in case.beginnings(decision):
            if least[start] > budget + 1e-9:
                continue  # no episode comes here
            spent, weight = case.settle(ledger, start)
            found = ledger.feasible(decision, spent, weight)[0]
            assert found.any()
            for width, feasible in zip(case.widths(decision), found, strict=True):
                reached = least.get((*start, width), np.inf)
                if abs(reached - budget) > 1e-9:
                    assert feasible == (reached < budget)


@settings(max_examples=60)
@given(data=st.data(), share=shares)
def test_a_choice_is_feasible_alone_where_some_assignment_with_it_keeps_to_the_budget(
    make_stub: MakeStub, data: st.DataObject, share: float
) -> None:
    case = data.draw(cases(make_stub))
    budget = between(case, share)
    ledger = case.ledger(budget)
    for decision in plan_of(case.stub, case.scheme).decisions:
        place = 2 * decision.layer + decision.part
        found = ledger.feasible_alone(decision)
        for width, feasible in zip(case.widths(decision), found, strict=True):
            reached = min(t for bits, t in case.totals.items() if bits[place] == width)
            if abs(reached - budget) > 1e-9:
                assert feasible == (reached < budget)


@settings(max_examples=60)
@given(data=st.data(), share=shares)
def test_slack_is_the_share_of_what_is_left_to_spend(
    make_stub: MakeStub, data: st.DataObject, share: float
) -> None:
    case = data.draw(cases(make_stub))
    budget, least, most = between(case, share), case.least, case.most
    ledger = case.ledger(budget)
    for decision in plan_of(case.stub, case.scheme).decisions:
        for start in case.beginnings(decision):
            found = float(ledger.slack(decision, *case.settle(ledger, start))[0])
            assert 0 <= found <= 1
            free = most[start] - least[start]
            if free > 1e-6:
                expected = np.clip((budget - least[start]) / free, 0, 1)
                assert found == pytest.approx(expected, abs=1e-6)


@settings(max_examples=40)
@given(data=st.data())
def test_what_is_settled_adds_up_to_the_cost(make_stub: MakeStub, data: st.DataObject) -> None:
    """The weights alone commit to the cheapest activation that goes with them."""
    case = data.draw(cases(make_stub))
    ledger = case.ledger(between(case, 1))
    bits = data.draw(st.sampled_from(sorted(case.totals)))
    assert case.settle(ledger, bits)[0] == pytest.approx(case.totals[bits])
    rest = [t for other, t in case.totals.items() if other[:-1] == bits[:-1]]
    assert case.settle(ledger, bits[:-1])[0] == pytest.approx(min(rest))


@settings(max_examples=25)
@given(data=st.data(), share=shares)
def test_episodes_in_step_are_judged_each_on_its_own(
    make_stub: MakeStub, data: st.DataObject, share: float
) -> None:
    case = data.draw(cases(make_stub))
    ledger = case.ledger(between(case, share))
    for decision in plan_of(case.stub, case.scheme).decisions:
        alone = [case.settle(ledger, start) for start in case.beginnings(decision)]
        spent, weight = (np.concatenate(column) for column in zip(*alone, strict=True))
        together = ledger.feasible(decision, spent, weight), ledger.slack(decision, spent, weight)
        for i, row in enumerate(alone):
            assert ledger.feasible(decision, *row)[0].tolist() == together[0][i].tolist()
            assert ledger.slack(decision, *row)[0] == together[1][i]


@settings(max_examples=25)
@given(data=st.data())
def test_slack_runs_from_zero_to_one(make_stub: MakeStub, data: st.DataObject) -> None:
    case = data.draw(cases(make_stub))
    first = plan_of(case.stub, case.scheme).decisions[0]
    pinned = case.beginnings(first)[0]
    low, high = min(case.totals.values()), max(case.totals.values())

    def slack(budget: float) -> float:
        ledger = case.ledger(budget)
        return float(ledger.slack(first, *case.settle(ledger, pinned))[0])

    assert slack(low) == pytest.approx(0, abs=1e-6)
    assert slack(high) == pytest.approx(1, abs=1e-6)
    assert slack(high + 1) == 1
    assert slack((low + high) / 2) == pytest.approx(0.5, abs=1e-6)
    # with the cheapest choice so far the next ones are freer, with the dearest less free
    ledger = case.ledger(data.draw(st.floats(low, high)))
    spent, weight = case.settle(ledger, pinned)
    reached = spent + ledger.costs(first, weight)[0]
    following = Decision(first.layer + 1, WEIGHT)
    values = ledger.slack(following, np.array([reached.min(), reached.max()]), NOBODY.repeat(2))
    assert bool(((values >= 0) & (values <= 1)).all())
    assert values[0] >= values[1]


def test_slack_where_nothing_can_be_chosen(make_stub: MakeStub) -> None:
    stub = make_stub([(1, 1), (1, 1)], pinned={1: 8})
    ledger = make_case(stub, JointDecisions(), Size()).ledger(1)
    nothing = NOBODY.repeat(2)
    assert ledger.slack(Decision(1, WEIGHT), np.array([0.1, 0.5]), nothing).tolist() == [1, 1]
    assert ledger.slack(Decision(2, WEIGHT), np.array([1.0]), NOBODY).tolist() == [1]


def test_the_size_leaves_activations_free(make_stub: MakeStub) -> None:
    case = make_case(make_stub([(3, 5), (7, 2)]), SeparateDecisions(), Size())
    ledger = case.ledger(0.25)  # only 2 bits will do
    for layer, spent in ((0, 0.3 * 0.25), (1, 0.25)):
        reached = np.array([spent])
        activation = Decision(layer, ACTIVATION)
        assert ledger.costs(activation, NOBODY).tolist() == [[0, 0, 0]]
        assert ledger.feasible(activation, reached, NOBODY).tolist() == [[True] * 3]
        assert ledger.feasible_alone(activation).tolist() == [True] * 3
        assert ledger.feasible_alone(Decision(layer, WEIGHT)).tolist() == [True, False, False]


def test_tables_of_pairs_by_hand(make_stub: MakeStub) -> None:
    stub = make_stub([(3, 5), (7, 15)], bits=(2, 4), pinned={1: 8}, activation_bits=(2, 6, 8))
    size, bops = (pair_tables(cost, stub) for cost in COSTS)
    assert size[0] == pytest.approx(np.array([[6, 6, 6], [12, 12, 12]]) / 80)
    assert size[1] == pytest.approx(np.array([[56 / 80]]))
    assert bops[0] == pytest.approx(5 * np.array([[4, 12, 16], [8, 24, 32]]) / (20 * 64))
    assert bops[1] == pytest.approx(np.array([[15 / 20]]))


@settings(max_examples=25)
@given(data=st.data())
def test_an_unreachable_budget_names_the_smallest_that_is_reachable(
    make_stub: MakeStub, data: st.DataObject
) -> None:
    case = data.draw(cases(make_stub))
    smallest = min(case.totals.values())
    with pytest.raises(BudgetError, match=case.cost.name) as caught:
        case.ledger(smallest * 0.99)
    named = float(re.findall(r"\d+\.\d+", str(caught.value))[-1])
    assert named == pytest.approx(smallest, abs=2e-6)
    case.ledger(named)
    case.ledger(smallest)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: type(scheme).__name__)
@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), float("-inf")])
def test_senseless_budgets_are_refused(
    make_stub: MakeStub, budget: float, scheme: DecisionScheme
) -> None:
    with pytest.raises(BudgetError, match="smallest reachable"):
        make_case(make_stub([(1, 1), (1, 1)]), scheme, Size()).ledger(budget)
