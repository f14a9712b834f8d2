import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqmq_env.errors import AssignmentError, SettingError
from dqmq_env.task.decisions import (
    ACTIVATION,
    WEIGHT,
    Decision,
    JointDecisions,
    Plan,
    SeparateDecisions,
    plan_of,
    scheme_by_name,
)

MakeStub = Callable[..., Any]
LAYERS = [(10, 400), (30, 100), (60, 500)]
SCHEMES = [JointDecisions(), SeparateDecisions()]


def pairs(plan: Plan, layer: int) -> list[list[bool]]:
    """Which pairs a layer may end with: a row for each width of its weights."""
    found: list[list[bool]] = plan.allowed[layer].tolist()
    return found


def test_a_joint_plan_asks_once_for_each_layer(make_stub: MakeStub) -> None:
    plan = plan_of(make_stub(LAYERS), JointDecisions())
    assert plan.decisions == ((0, WEIGHT), (1, WEIGHT), (2, WEIGHT))
    assert plan.candidates == (2, 4, 8)
    same = [[True, False, False], [False, True, False], [False, False, True]]
    assert [pairs(plan, layer) for layer in range(3)] == [same] * 3


def test_a_separate_plan_asks_for_weights_and_then_for_the_activation(
    make_stub: MakeStub,
) -> None:
    plan = plan_of(make_stub(LAYERS), SeparateDecisions())
    assert plan.decisions == tuple(
        Decision(layer, part) for layer in range(3) for part in (WEIGHT, ACTIVATION)
    )
    assert plan.candidates == (2, 4, 8)
    assert [pairs(plan, layer) for layer in range(3)] == [[[True] * 3] * 3] * 3


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [4, 8, 3])
def test_with_activations_at_one_width_only_weights_are_decided(
    make_stub: MakeStub, scheme: Any, width: int
) -> None:
    """The width need not be one that weights may have."""
    plan = plan_of(make_stub(LAYERS, activation_bits=(width,)), scheme)
    assert plan.decisions == ((0, WEIGHT), (1, WEIGHT), (2, WEIGHT))
    assert plan.candidates == (2, 4, 8)
    assert [pairs(plan, layer) for layer in range(3)] == [[[True]] * 3] * 3


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("activation_bits", [None, (6,)])
def test_pinned_layers_are_passed_by(
    make_stub: MakeStub, scheme: Any, activation_bits: tuple[int, ...] | None
) -> None:
    stub = make_stub(LAYERS, pinned={0: 8, 2: 5}, activation_bits=activation_bits)
    plan = plan_of(stub, scheme)
    assert {decision.layer for decision in plan.decisions} == {1}
    assert plan.candidates == (2, 4, 8)
    assert pairs(plan, 0) == pairs(plan, 2) == [[True]]


def test_where_weights_have_one_width_the_activation_can_still_be_decided(
    make_stub: MakeStub,
) -> None:
    stub = make_stub(LAYERS, bits=(4,), activation_bits=(2, 8))
    plan = plan_of(stub, SeparateDecisions())
    assert plan.decisions == ((0, ACTIVATION), (1, ACTIVATION), (2, ACTIVATION))
    assert plan.candidates == (2, 8)


@given(
    bits=st.lists(st.integers(1, 8), min_size=2, unique=True).map(sorted).map(tuple),
    pinned=st.dictionaries(st.integers(0, 2), st.integers(1, 8), max_size=2),
)
def test_there_are_twice_as_many_separate_decisions_as_joint_ones(
    make_stub: MakeStub, bits: tuple[int, ...], pinned: dict[int, int]
) -> None:
    stub = make_stub(LAYERS, bits=bits, pinned=pinned)
    joint, separate = (plan_of(stub, scheme) for scheme in SCHEMES)
    assert joint.candidates == separate.candidates == bits
    assert separate.decisions == tuple(
        Decision(layer, part) for layer, _ in joint.decisions for part in (WEIGHT, ACTIVATION)
    )
    assert [layer for layer, _ in joint.decisions] == sorted({0, 1, 2} - set(pinned))
    for fewer, more in zip(joint.allowed, separate.allowed, strict=True):
        assert fewer.shape == more.shape
        assert not (fewer & ~more).any()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("bits", "activation_bits", "pinned"),
    [((8,), None, {}), ((8,), (4,), {}), ((2, 4), None, {0: 8, 1: 8, 2: 8})],
)
def test_a_problem_without_a_choice_is_refused(
    make_stub: MakeStub,
    scheme: Any,
    bits: tuple[int, ...],
    activation_bits: tuple[int, ...] | None,
    pinned: dict[int, int],
) -> None:
    stub = make_stub(LAYERS, bits=bits, pinned=pinned, activation_bits=activation_bits)
    with pytest.raises(AssignmentError, match="candidates: allowed is one set of two or more"):
        plan_of(stub, scheme)


def test_choices_must_not_differ_in_their_widths(make_stub: MakeStub) -> None:
    stub = make_stub(LAYERS, bits=(2, 4), activation_bits=(4, 8))
    with pytest.raises(AssignmentError, match=r"got \[\(2, 4\), \(4, 8\)\]"):
        plan_of(stub, SeparateDecisions())
    with pytest.raises(AssignmentError, match=r"activation_candidates: got \(4, 8\)"):
        plan_of(stub, JointDecisions())


def test_a_plan_can_be_pickled(make_stub: MakeStub) -> None:
    plan = plan_of(make_stub(LAYERS, pinned={0: 8}), SeparateDecisions())
    again = pickle.loads(pickle.dumps(plan))
    assert again.decisions == plan.decisions
    assert again.candidates == plan.candidates
    assert [pairs(again, layer) for layer in range(3)] == [pairs(plan, i) for i in range(3)]


def test_schemes_have_names() -> None:
    assert scheme_by_name("joint") == JointDecisions()
    assert scheme_by_name("separate") == SeparateDecisions()


@pytest.mark.parametrize("name", ["", "Joint", "both"])
def test_other_names_are_refused(name: str) -> None:
    allowed = r"allowed are \['joint', 'separate'\]"
    with pytest.raises(SettingError, match=f"decisions: got '{name}', {allowed}"):
        scheme_by_name(name)
