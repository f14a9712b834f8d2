from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dqmq_env.errors import AssignmentError
from dqmq_env.export.integer_reference import integer_output
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.dorefa import DoReFa
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.pact import PACT
from dqmq_env.quantization.post_training import Reconstruction, StepSearch
from dqmq_env.quantization.scheme import DEFAULT_SCHEME, Scheme
from dqmq_env.quantization.tracing import trace_layers

WIDTHS = tuple(range(1, 9))
SCHEMES: list[Scheme] = [DEFAULT_SCHEME, PACT(), DoReFa()]


@dataclass(frozen=True)
class Case:
    """A layer, what it receives, and how it is quantised."""

    inner: nn.Conv2d | nn.Linear
    x: Tensor
    scheme: Scheme = DEFAULT_SCHEME
    per_channel: bool = True
    fitted: bool = False

    def layer(self) -> QuantizedLayer:
        network = nn.Sequential(self.inner).eval()
        specs = trace_layers(network, self.x[:1])
        widths = {"0": WIDTHS}
        quantized = QuantizedNetwork(network, specs, widths, self.per_channel, widths, self.scheme)
        (Reconstruction(patches=64) if self.fitted else StepSearch())(quantized, self.x)
        return quantized.layers[0]


def conv(
    channels: int = 4,
    out: int = 6,
    kernel: int | tuple[int, int] = 3,
    signed: bool = False,
    images: int = 2,
    seed: int = 0,
    **options: object,
) -> Case:
    torch.manual_seed(seed)
    inner = nn.Conv2d(channels, out, kernel, **options)  # type: ignore[arg-type]
    x = torch.randn(images, channels, 9, 8)
    return Case(inner, x if signed else x.relu())


def linear(inputs: int = 20, out: int = 5, signed: bool = False, *extra: int) -> Case:
    torch.manual_seed(0)
    x = torch.randn(6, *extra, inputs)
    return Case(nn.Linear(inputs, out), x if signed else x.relu())


CASES = {
    "plain": conv(padding=1),
    "no bias": conv(bias=False),
    "stride": conv(stride=2, padding=1),
    "oblong": conv(kernel=(3, 2), stride=(1, 2), padding=(2, 0), dilation=(2, 1)),
    "pointwise": conv(kernel=1),
    "groups": conv(groups=2, padding=1),
    "depthwise": conv(out=4, groups=4, padding=1),
    "depthwise twice": conv(out=8, groups=4, padding=1),
    "same": conv(kernel=(3, 5), padding="same", dilation=2),
    "mirrored": conv(padding=1, padding_mode="reflect", signed=True),
    "zero point": conv(padding=1, signed=True),
    "linear": linear(),
    "linear with a zero point": linear(40, 3, True),
    "linear over tokens": linear(12, 7, False, 3),
}


@torch.no_grad()
def assert_agrees(layer: QuantizedLayer, x: Tensor, bits: LayerBits) -> None:
    found = integer_output(layer, x, bits)
    simulated = layer.compute(x, bits).numpy().astype(np.float64)
    assert simulated.shape == found.values.shape
    assert (abs(simulated - found.values) <= found.bound).all()
    # the bound says something: it is far below what one unit more in one of the codes makes
    assert found.bound.max() < 0.1 * found.scale.max() * max(abs(found.sums).max(), 1)


@pytest.mark.parametrize("scheme", SCHEMES, ids=["lsq", "pact", "dorefa"])
@pytest.mark.parametrize("name", CASES)
def test_fake_quantisation_is_integer_arithmetic_at_every_width(name: str, scheme: Scheme) -> None:
    case = replace(CASES[name], scheme=scheme)
    layer = case.layer()
    for width in WIDTHS:
        assert_agrees(layer, case.x, LayerBits(width, width))


@pytest.mark.parametrize("name", CASES)
def test_so_are_weights_rounded_after_training_with_their_corrections(name: str) -> None:
    case = replace(CASES[name], fitted=True)
    layer = case.layer()
    assert layer.rounded is not None
    assert layer.rounded.scale.unique().numel() > 1
    for weight in WIDTHS:
        for activation in (2, 3, 8):
            assert_agrees(layer, case.x, LayerBits(weight, activation))


@given(
    groups=st.integers(1, 3),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    weight=st.sampled_from(WIDTHS),
    activation=st.sampled_from(WIDTHS),
    scheme=st.sampled_from(SCHEMES),
    per_channel=st.booleans(),
    signed=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=80)
def test_any_convolution(
    groups: int,
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    weight: int,
    activation: int,
    scheme: Scheme,
    per_channel: bool,
    signed: bool,
    seed: int,
) -> None:
    made = conv(
        groups * inputs,
        groups * outputs,
        kernel,
        signed,
        seed=seed,
        groups=groups,
        stride=stride,
        padding=padding,
        dilation=dilation,
    )
    case = replace(made, scheme=scheme, per_channel=per_channel)
    assert_agrees(case.layer(), case.x, LayerBits(weight, activation))


@torch.no_grad()
def test_sums_are_those_of_a_loop_over_single_products() -> None:
    case = conv(2, 4, (2, 3), signed=True, images=1, stride=2, padding=1, groups=2)
    layer, bits = case.layer(), LayerBits(3, 5)
    found = integer_output(layer, case.x, bits)
    position = WIDTHS.index(bits.activation)
    step = layer.activation_log_step[position].exp()
    codes = (
        (case.x[0] / step)
        .round()
        .clamp(layer.activation_grid(position).low, layer.activation_grid(position).high)
    )
    weight = layer.weight_codes(bits.weight)
    _, rows, columns = codes.shape
    for out, row, column in np.ndindex(*found.sums.shape[1:]):
        total = 0
        for down, across in np.ndindex(2, 3):
            y, x = 2 * row + down - 1, 2 * column + across - 1
            if 0 <= y < rows and 0 <= x < columns:
                total += int(codes[out // 2, y, x]) * int(weight[out, 0, down, across])
        assert found.sums[0, out, row, column] == total


@torch.no_grad()
def test_whole_networks_with_folded_norms_layer_by_layer(tiny_problem: NetworkProblem) -> None:
    images = tiny_problem.normalize(tiny_problem.data.test.images[:4])
    assignment = tiny_problem.uniform(2)
    for network in (tiny_problem.quantized, tiny_problem.trainable().folded()):
        received: list[Tensor] = []

        def look(index: int, x: Tensor, into: list[Tensor] = received) -> LayerBits:
            into.append(x)
            return list(assignment.values())[index]

        network(images, look)
        for layer, x in zip(network.layers, received, strict=True):
            for bits in layer.options:
                assert_agrees(layer, x, bits)
                # hardware adds up in 32 bits
                assert integer_output(layer, x, bits).magnitudes.max() < 2**31


@pytest.mark.parametrize("bits", [LayerBits(9, 4), LayerBits(32, 4), LayerBits(4, 32)])
def test_other_bits_are_refused(bits: LayerBits) -> None:
    case = linear()
    with pytest.raises(AssignmentError, match=r"candidates|allowed"):
        integer_output(case.layer(), case.x, bits)
