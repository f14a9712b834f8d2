from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env.errors import SettingError
from dqmq_env.evaluation.statistic_table import ACTIVATION_STATISTICS
from dqmq_env.quality import DESCRIPTOR_NAMES
from dqmq_env.task.decisions import (
    DecisionScheme,
    JointDecisions,
    SeparateDecisions,
    plan_of,
)
from dqmq_env.task.observation import LAYER, PROGRESS, ObservationLayout, Observer

MakeStub = Callable[..., Any]
counts = st.integers(1, 10**9)
LAYERS = [(10, 400), (30, 100), (60, 500)]


def make_observer(stub: Any, scheme: DecisionScheme | None = None) -> Observer:
    return Observer(stub, plan_of(stub, scheme or JointDecisions()))


def observe(
    observer: Observer,
    decision: int,
    spent: float = 0.0,
    slack: float = 1.0,
    previous: int = 0,
    count: int = 1,
) -> dict[str, float]:
    rows = observer.observe(
        decision,
        np.full((count, 6), 0.25, np.float32),
        np.full((count, 4), 0.75, np.float32),
        np.full(count, spent),
        np.full(count, slack),
        np.full(count, previous),
    )
    assert rows.shape == (count, len(observer.layout.names))
    assert rows.dtype == np.float32
    return dict(zip(observer.layout.names, rows[0].tolist(), strict=True))


def test_layout_names_every_feature_once() -> None:
    layout = ObservationLayout((2, 4, 8))
    assert len(set(layout.names)) == len(layout.names) == 6 + 4 + 9 + 3 + 5
    expected = [
        *(f"quality.{name}" for name in DESCRIPTOR_NAMES),
        *(f"activation.{name}" for name in ACTIVATION_STATISTICS),
        *(f"layer.{name}" for name in LAYER),
        "error.2_bits",
        "error.4_bits",
        "error.8_bits",
        *(f"progress.{name}" for name in PROGRESS),
    ]
    assert list(layout.names) == expected


def test_parts_and_places_of_a_layout() -> None:
    layout = ObservationLayout((2, 4, 8))
    parts = ["quality", "activation", "layer", "error", "progress"]
    slices = [layout.part(part) for part in parts]
    assert slices[0].start == 0
    assert slices[-1].stop == len(layout.names)
    assert [s.stop for s in slices[:-1]] == [s.start for s in slices[1:]]
    for part, places in zip(parts, slices, strict=True):
        assert all(name.startswith(f"{part}.") for name in layout.names[places])
    assert layout.names[layout.place("progress.spent")] == "progress.spent"
    with pytest.raises(SettingError, match="no part 'nothing'"):
        layout.part("nothing")


def test_features_by_hand(make_stub: MakeStub) -> None:
    stub = make_stub(LAYERS, pinned={0: 8})
    observer = make_observer(stub)
    features = observe(observer, 1, spent=0.3, slack=0.6, previous=4)
    # the decided layers are 1 and 2; fractions are of the largest among them
    assert features["quality.noise"] == 0.25
    assert features["activation.mean"] == 0.75
    assert features["layer.depthwise"] == 0
    assert features["layer.in_channels"] == pytest.approx(4 / 4)
    assert features["layer.stride"] == pytest.approx(1 / 2)
    assert features["layer.weights"] == pytest.approx(60 / 60)
    assert features["layer.input_size"] == 1
    # shares are of the whole network
    assert features["layer.size_share"] == pytest.approx(60 / 100)
    assert features["layer.bops_share"] == pytest.approx(500 / 1000)
    assert features["error.4_bits"] == pytest.approx(0.5**4)
    assert features["progress.index"] == 0.5
    assert features["progress.spent"] == pytest.approx(0.3)
    assert features["progress.slack"] == pytest.approx(0.6)
    assert features["progress.previous"] == 0.5
    assert features["progress.activation"] == 0
    first = observe(observer, 0)
    assert first["layer.depthwise"] == 1
    assert first["layer.weights"] == pytest.approx(30 / 60)
    assert first["progress.index"] == first["progress.previous"] == 0


def test_previous_bits_are_shown_over_eight(make_stub: MakeStub) -> None:
    observer = make_observer(make_stub(LAYERS, bits=(2, 4)))
    assert observe(observer, 1, previous=4)["progress.previous"] == 0.5


def test_after_the_last_decision_only_progress_is_left(make_stub: MakeStub) -> None:
    observer = make_observer(make_stub(LAYERS))
    features = observe(observer, 3, spent=0.9, slack=1, previous=8)
    for name, value in features.items():
        part = name.partition(".")[0]
        if part in ("activation", "layer", "error"):
            assert value == 0, name
    assert features["progress.index"] == features["progress.previous"] == 1
    assert features["quality.noise"] == 0.25


@settings(max_examples=30)
@given(
    layers=st.lists(
        st.tuples(st.integers(1, 10**9), st.integers(1, 10**9)), min_size=1, max_size=4
    ),
    spent=st.floats(0, 2),
    slack=st.floats(0, 1),
    data=st.data(),
)
def test_features_lie_between_zero_and_one(
    make_stub: MakeStub,
    layers: list[tuple[int, int]],
    spent: float,
    slack: float,
    data: st.DataObject,
) -> None:
    scheme: DecisionScheme = data.draw(st.sampled_from([JointDecisions(), SeparateDecisions()]))
    stub = make_stub(layers)
    observer = make_observer(stub, scheme)
    decision = data.draw(st.integers(0, len(plan_of(stub, scheme).decisions)))
    features = observe(observer, decision, spent, slack, data.draw(st.sampled_from([0, 2, 8])), 3)
    assert all(0 <= value <= 1 for value in features.values())


def test_a_layer_is_seen_twice_where_its_parts_are_decided_in_turn(make_stub: MakeStub) -> None:
    observer = make_observer(make_stub(LAYERS, pinned={0: 8}), SeparateDecisions())
    weight, activation, following = (observe(observer, decision) for decision in (0, 1, 2))
    own = [name for name in weight if name.startswith("layer.")]
    assert [weight[name] for name in own] == [activation[name] for name in own]
    assert weight["layer.depthwise"] == 1
    assert following["layer.depthwise"] == 0
    # the errors are those of what is decided
    assert weight["error.4_bits"] == following["error.4_bits"] == pytest.approx(0.5**4)
    assert activation["error.4_bits"] == pytest.approx(0.75**4)
    parts = [observe(observer, i)["progress.activation"] for i in range(5)]
    assert parts == [0, 1, 0, 1, 0]  # the last one is after the end
    assert [observe(observer, i)["progress.index"] for i in range(5)] == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("scheme", [JointDecisions(), SeparateDecisions()])
def test_decisions_about_weights_alone_are_seen_as_such(
    make_stub: MakeStub, scheme: DecisionScheme
) -> None:
    observer = make_observer(make_stub(LAYERS, bits=(2, 4), activation_bits=(8,)), scheme)
    assert observer.layout.candidates == (2, 4)
    for decision in range(3):
        features = observe(observer, decision)
        assert features["error.2_bits"] == pytest.approx(0.5**2)
        assert features["progress.index"] == pytest.approx(decision / 3)
        assert features["progress.activation"] == 0
