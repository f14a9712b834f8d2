"""Costs that are formulas: by hand, and how they change with bits."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqmq_env.costs import COSTS, Cost, Energy, LatencyTable, Memory, as_costs, costs_with
from dqmq_env.costs import cost_by_name as by_name
from dqmq_env.errors import DQMQError, SettingError
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.task.reward import WeightedReward

COUNTED: list[Cost] = [Energy(), Energy("dram"), Memory()]
widths = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 32])


@st.composite
def layers(draw: st.DrawFn) -> LayerSpec:
    """Convolutions, depthwise or not, and linear layers, used once or several times."""
    side, kernel, stride = (draw(st.integers(1, most)) for most in (9, 3, 2))
    channels, outputs, uses = (draw(st.integers(1, 20)) for _ in range(3))
    kind = draw(st.sampled_from(["conv", "depthwise", "linear"]))
    if kind == "linear":
        weights = channels * outputs
        shapes = (side, channels), (side, outputs)
        places = side
        kernel = stride = 1
    else:
        outputs = channels if kind == "depthwise" else outputs
        weights = outputs * (1 if kind == "depthwise" else channels) * kernel**2
        after = -(-side // stride)
        shapes = (channels, side, side), (outputs, after, after)
        places = after**2
    groups = channels if kind == "depthwise" else 1
    macs = uses * weights * places
    return LayerSpec("l", kind, channels, outputs, kernel, stride, groups, weights, macs, *shapes)


@given(spec=layers(), bits=st.tuples(widths, widths), other=st.tuples(widths, widths))
def test_more_bits_never_cost_less(
    spec: LayerSpec, bits: tuple[int, int], other: tuple[int, int]
) -> None:
    low, high = LayerBits(*map(min, bits, other)), LayerBits(*map(max, bits, other))
    for cost in COUNTED:
        assert 0 < cost.of(spec, low) <= cost.of(spec, high)
        if low.weight < high.weight and low.activation < high.activation:
            assert cost.of(spec, low) < cost.of(spec, high)


@given(spec=layers(), bits=st.tuples(widths, widths))
def test_weights_from_dram_cost_more_by_what_reading_them_costs(
    spec: LayerSpec, bits: tuple[int, int]
) -> None:
    pair = LayerBits(*bits)
    more = Energy("dram").of(spec, pair) - Energy("sram").of(spec, pair)
    assert more == pytest.approx(spec.weights * bits[0] * (1300 - 100) / 64, rel=1e-6)


# 16 channels of 10 x 10 in and out, 3 x 3: 2,304 weights, 230,400 MACs, 1,600 values received
CONV = LayerSpec("c", "conv", 16, 16, 3, 1, 1, 2_304, 230_400, (16, 10, 10), (16, 10, 10))


def test_by_hand() -> None:
    eight, two, as_float = LayerBits(8, 8), LayerBits(2, 4), LayerBits(32, 32)
    assert Memory().of(CONV, eight) == 8 * (2_304 + 1_600)
    assert Memory().of(CONV, two) == 2 * 2_304 + 4 * 1_600
    # 144 products need 8 more bits than one; Horowitz: 0.2 pJ, 0.1 pJ, and 100 pJ for 64 bits
    moved = 100 / 64 * (8 * 2_304 + 2 * 8 * 1_600)
    assert Energy().of(CONV, eight) == pytest.approx(230_400 * (0.2 + 0.1 * 24 / 32) + moved)
    moved = 100 / 64 * (2 * 2_304 + 2 * 4 * 1_600)
    multiplied = 0.2 * 2 * 4 / 64
    assert Energy().of(CONV, two) == pytest.approx(230_400 * (multiplied + 0.1 * 14 / 32) + moved)
    moved = 32 * 100 / 64 * (2_304 + 2 * 1_600)
    assert Energy().of(CONV, as_float) == pytest.approx(230_400 * (3.7 + 0.9) + moved)


def test_a_layer_that_is_used_twice_receives_twice() -> None:
    twice = LayerSpec("c", "conv", 16, 16, 3, 1, 1, 2_304, 460_800, (16, 10, 10), (16, 10, 10))
    four = LayerBits(4, 4)
    once = Memory().of(CONV, four)
    assert Memory().of(twice, four) == once + 4 * 1_600
    assert Energy().of(CONV, four) < Energy().of(twice, four) < 2 * Energy().of(CONV, four)


def test_another_memory_is_refused() -> None:
    with pytest.raises(SettingError, match=r"weight_memory: got 'tape', allowed are \['sram'"):
        Energy("tape")


@pytest.mark.parametrize("name", ["size", "bops", "energy", "memory"])
def test_costs_by_plain_values(name: str) -> None:
    costs = costs_with(name)
    assert costs[:2] == COSTS
    assert by_name(name, costs).name == name
    assert len(costs) == (2 if name in ("size", "bops") else 3)
    assert WeightedReward(name).cost == name


def test_the_memory_of_weights_is_told_to_the_energy() -> None:
    assert by_name("energy", costs_with("energy", weight_memory="dram")) == Energy("dram")
    with pytest.raises(SettingError, match="weight_memory: got 'x'"):
        costs_with("bops", weight_memory="x")


def test_a_table_is_stated_whatever_is_rewarded(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    table = LatencyTable.from_array(np.ones((1, 8, 8)), ["c"])
    table.to_csv(path)
    for name in ("bops", "energy", "latency"):
        assert by_name("latency", costs_with(name, path)) == table


@pytest.mark.parametrize(
    ("name", "table", "part"),
    [
        ("latency", None, "latency_table: got None"),
        ("joules", None, "cost: got 'joules', allowed are .*'energy', 'memory', 'latency'"),
        ("bops", "/nowhere/t.csv", "cannot read /nowhere/t.csv"),
    ],
)
def test_what_cannot_be_had_is_refused(name: str, table: str | None, part: str) -> None:
    with pytest.raises(DQMQError, match=part):
        costs_with(name, table)


def test_names_are_unlike() -> None:
    assert as_costs([Memory()]) == (Memory(),)
    for costs in ([], [Energy(), Energy("dram")]):
        with pytest.raises(SettingError, match="each name once"):
            as_costs(costs)
