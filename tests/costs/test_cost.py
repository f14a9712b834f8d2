from collections.abc import Sequence

import pytest
import torch
import torchvision

from dqmq_env.costs import (
    COSTS,
    Bops,
    Cost,
    Size,
    cost_by_name,
    fraction,
    layer_table,
    reference,
    total,
)
from dqmq_env.errors import AssignmentError, SettingError
from dqmq_env.quantization.assignment import BitAssignment, LayerBits
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.quantization.tracing import trace_layers
from dqmq_env.zoo.resnet import CifarResNet

MIB = 8 * 2**20
KIB = 8 * 2**10


def specs_of(name: str) -> list[LayerSpec]:
    if name == "resnet20":
        return trace_layers(CifarResNet(20, in_channels=3), torch.zeros(1, 3, 32, 32))
    network = torchvision.models.get_model(name, weights=None)
    return trace_layers(network, torch.zeros(1, 3, 224, 224))


def four_bits(specs: Sequence[LayerSpec]) -> BitAssignment:
    """W4A4 with the first and the last layer at 8."""
    ends = {specs[0].name, specs[-1].name}
    return BitAssignment({s.name: (8, 8) if s.name in ends else (4, 4) for s in specs})


@pytest.mark.parametrize(
    ("name", "float_bops", "eight_bops", "four_bops", "eight_size", "four_size"),
    [
        ("resnet18", 1857.6, 116.1, 34.7, (11.14, MIB), (5.82, MIB)),
        ("resnet50", 4187.3, 261.7, 71.2, (24.32, MIB), (13.14, MIB)),
        ("mobilenet_v2", 308.0, 19.25, 5.39, (3.31, MIB), None),
        ("resnet20", 41.52, 2.595, 0.670, (262.0, KIB), None),
    ],
)
def test_published_costs(
    name: str,
    float_bops: float,
    eight_bops: float,
    four_bops: float,
    eight_size: tuple[float, int],
    four_size: tuple[float, int] | None,
) -> None:
    specs = specs_of(name)
    names = [spec.name for spec in specs]
    at_float, at_eight = (BitAssignment.uniform(names, bits) for bits in (32, 8))

    def shown(value: float, published: float) -> bool:
        """Whether a value agrees with a published one to the digits in which it is given."""
        digits = len(str(published).partition(".")[2])
        return round(value, digits) == published

    assert shown(total(Bops(), specs, at_float) / 1e9, float_bops)
    assert shown(total(Bops(), specs, at_eight) / 1e9, eight_bops)
    assert shown(total(Bops(), specs, four_bits(specs)) / 1e9, four_bops)
    size, unit = eight_size
    assert shown(total(Size(), specs, at_eight) / unit, size)
    assert total(Size(), specs, at_float) == 4 * total(Size(), specs, at_eight)
    if four_size is not None:
        size, unit = four_size
        assert shown(total(Size(), specs, four_bits(specs)) / unit, size)


def spec(name: str, weights: int, macs: int) -> LayerSpec:
    return LayerSpec(name, "conv", 1, 1, 1, 1, 1, weights, macs, (1, 1, 1), (1, 1, 1))


SPECS = (spec("a", 10, 100), spec("b", 30, 50))


def test_costs_by_hand() -> None:
    bits = BitAssignment({"a": (2, 8), "b": (4, 3)})
    assert Size().of(SPECS[0], LayerBits(2, 8)) == 20
    assert Bops().of(SPECS[0], LayerBits(2, 8)) == 1600
    assert total(Size(), SPECS, bits) == 20 + 120
    assert total(Bops(), SPECS, bits) == 1600 + 600
    assert reference(Size(), SPECS) == 320
    assert reference(Bops(), SPECS) == 9600
    assert fraction(Size(), SPECS, bits) == pytest.approx(140 / 320)
    assert fraction(Bops(), SPECS, bits) == pytest.approx(2200 / 9600)


@pytest.mark.parametrize("cost", COSTS)
def test_table_sums_to_the_fraction(cost: Cost) -> None:
    options = {
        "a": [LayerBits(2, 2), LayerBits(8, 8)],
        "b": [LayerBits(3, 3), LayerBits(4, 2), LayerBits(2, 4), LayerBits(5, 8)],
    }
    table = layer_table(cost, SPECS, options)
    assert [len(row) for row in table] == [2, 4]
    for i, a in enumerate(options["a"]):
        for j, b in enumerate(options["b"]):
            bits = BitAssignment({"a": a, "b": b})
            assert table[0][i] + table[1][j] == pytest.approx(fraction(cost, SPECS, bits))


def test_size_leaves_activations_out_and_bops_count_both_alike() -> None:
    for spec in SPECS:
        assert Size().of(spec, LayerBits(4, 2)) == Size().of(spec, LayerBits(4, 8))
        assert Size().of(spec, LayerBits(2, 4)) < Size().of(spec, LayerBits(8, 4))
        assert Bops().of(spec, LayerBits(4, 2)) == Bops().of(spec, LayerBits(2, 4))
        assert Bops().of(spec, LayerBits(4, 2)) < Bops().of(spec, LayerBits(4, 8))


@pytest.mark.parametrize("cost", COSTS)
def test_eight_bits_everywhere_is_one(cost: Cost) -> None:
    assert fraction(cost, SPECS, BitAssignment.uniform(["a", "b"], 8)) == 1


def test_costs_have_names() -> None:
    assert cost_by_name("size") == Size()
    assert cost_by_name("bops") == Bops()
    assert [cost_by_name(cost.name) for cost in COSTS] == list(COSTS)
    with pytest.raises(SettingError, match=r"cost: got 'flops', allowed are \['size', 'bops'\]"):
        cost_by_name("flops")


def test_an_assignment_without_a_layer_has_no_cost() -> None:
    with pytest.raises(AssignmentError, match=r"\['b'\]"):
        total(Size(), SPECS, BitAssignment({"a": (2, 2)}))
