import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dqmq_env import BitAssignment, LayerBits, NetworkProblem, QuantizedNetwork
from dqmq_env.quantization.candidates import candidate_bits
from dqmq_env.quantization.folding import fold_batch_norm
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.patches import take_patches
from dqmq_env.quantization.post_training import PostTraining, Reconstruction, StepSearch
from dqmq_env.quantization.tracing import trace_layers

BITS = (2, 4, 8)


def ready(
    network: nn.Module,
    x: Tensor,
    bits: tuple[int, ...] = BITS,
    method: PostTraining | None = None,
    per_channel: bool = True,
) -> QuantizedNetwork:
    specs = trace_layers(network, x[:1])
    candidates = candidate_bits(specs, bits, None, None)
    quantized = QuantizedNetwork(network, specs, candidates, per_channel).requires_grad_(False)
    (method or Reconstruction())(quantized, x)
    return quantized


@pytest.fixture(scope="module")
def floats(tiny_network: nn.Module) -> nn.Module:
    return fold_batch_norm(tiny_network).requires_grad_(False)


@pytest.fixture(scope="module")
def rebuilt(floats: nn.Module, tiny_input: Tensor) -> QuantizedNetwork:
    """The tiny network, reconstructed; not changed by any test."""
    return ready(floats, tiny_input)


def received(network: nn.Module, x: Tensor, name: str) -> Tensor:
    """What a layer of a float network receives."""
    seen: list[Tensor] = []
    handle = network.get_submodule(name).register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0])
    )
    with torch.no_grad():
        network(x)
    handle.remove()
    return seen[0]


# What is computed.


def test_float_bits_give_the_float_network(
    rebuilt: QuantizedNetwork, floats: nn.Module, tiny_input: Tensor
) -> None:
    assert torch.equal(rebuilt(tiny_input, rebuilt.uniform(32)), floats(tiny_input))


@settings(max_examples=20)
@given(
    index=st.integers(0, 7), weight=st.sampled_from(BITS), activation=st.sampled_from((*BITS, 32))
)
def test_a_layer_is_steps_times_codes_and_a_bias(
    rebuilt: QuantizedNetwork, tiny_input: Tensor, index: int, weight: int, activation: int
) -> None:
    layer = rebuilt.layers[index % len(rebuilt.layers)]
    bits = LayerBits(weight, activation)
    x = torch.randn(2, *layer.spec.input_shape)
    codes, steps = layer.weight_codes(weight), layer.weight_steps(bits)
    grid = layer.weight_grid(BITS.index(weight))
    assert grid.low <= int(codes.min())
    assert int(codes.max()) <= grid.high
    assert steps.shape == (layer.spec.out_channels,)
    assert bool((steps > 0).all())
    product = codes * steps.view(-1, *(1 for _ in codes.shape[1:]))
    rounded = layer.quantized_input(x, activation)
    if isinstance(layer.inner, nn.Linear):
        expected = F.linear(rounded, product, layer.bias(bits))
    else:
        expected = layer.inner._conv_forward(rounded, product, layer.bias(bits))
    assert torch.equal(layer.compute(x, bits), expected)


def test_codes_and_steps_without_reconstruction(floats: nn.Module, tiny_input: Tensor) -> None:
    plain = ready(floats, tiny_input, method=StepSearch())
    layer = plain.layers[1]
    steps = layer.weight_steps(LayerBits(4, 2)).view(-1, 1, 1, 1)
    assert torch.equal(layer.weight_codes(4) * steps, layer.quantized_weight(4))
    assert layer.bias(LayerBits(4, 2)) is layer.inner.bias


def test_one_bit(floats: nn.Module, tiny_input: Tensor) -> None:
    layer = ready(floats, tiny_input, (1, 2)).layers[2]
    assert all(len(channel.unique()) <= 2 for channel in layer.quantized_weight(1))
    codes = layer.weight_codes(1)
    assert set(codes.unique().tolist()) == {-1, 0}


# What is gained.


def test_outputs_of_layers_are_nearer_to_float(
    rebuilt: QuantizedNetwork, floats: nn.Module, tiny_input: Tensor
) -> None:
    plain = ready(floats, tiny_input, method=StepSearch())
    for index, spec in enumerate(rebuilt.specs):
        x = received(floats, tiny_input, spec.name)
        for weight, activation in ((2, 8), (4, 8), (2, 2), (2, 32)):
            bits = LayerBits(weight, activation)
            exact = plain.layers[index].compute(x, LayerBits(32, 32))
            errors = [
                float((network.layers[index].compute(x, bits) - exact).square().mean())
                for network in (rebuilt, plain)
            ]
            assert errors[0] < 1.02 * errors[1], (spec.name, bits)


def test_means_and_spreads_are_restored(floats: nn.Module, tiny_input: Tensor) -> None:
    rebuilt = ready(floats, tiny_input, method=Reconstruction(shares=(1.0,)))
    plain = ready(floats, tiny_input, method=StepSearch())
    for bits in (LayerBits(2, 8), LayerBits(2, 2), LayerBits(8, 2)):
        distances = {id(rebuilt): 0.0, id(plain): 0.0}
        for index, spec in enumerate(rebuilt.specs):
            x = received(floats, tiny_input, spec.name)
            exact = plain.layers[index].compute(x, LayerBits(32, 32)).transpose(0, 1).flatten(1)
            for network in (rebuilt, plain):
                found = network.layers[index].compute(x, bits).transpose(0, 1).flatten(1)
                means = (found.mean(1) - exact.mean(1)).square()
                spreads = (found.std(1) - exact.std(1)).square()
                distances[id(network)] += float((means + spreads).sum() / exact.var(1).sum())
        assert distances[id(rebuilt)] < 0.3 * distances[id(plain)], bits


def test_logits_are_nearer_to_float(
    rebuilt: QuantizedNetwork, floats: nn.Module, tiny_input: Tensor
) -> None:
    plain, exact = ready(floats, tiny_input, method=StepSearch()), floats(tiny_input)
    for bits in ((2, 8), (2, 2), (4, 4)):
        assignment = BitAssignment({spec.name: bits for spec in rebuilt.specs})
        errors = [
            float((network(tiny_input, assignment) - exact).norm()) for network in (rebuilt, plain)
        ]
        assert errors[0] < errors[1], bits


# Forms of layers.


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, (1, 3), (2, 1), (0, 2), bias=False),
        nn.Conv2d(4, 8, 3, groups=2, dilation=2, padding="same"),
        nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 8, (5, 3), groups=4, padding=2, padding_mode="reflect"),
        nn.Linear(9, 5),
    ],
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_patches_times_weights_are_the_output(layer: nn.Module, channels_last: bool) -> None:
    network = nn.Sequential(layer).eval()
    x = torch.randn(7, 4, 9, 9)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    wrapped = QuantizedNetwork(network, specs := trace_layers(network, x[:1]), {"0": (8,)})
    assert specs
    quantized = wrapped.layers[0]
    patches = take_patches(quantized, x, 100_000)
    weight = quantized.inner.weight
    rows = weight.reshape(patches.fitted.shape[0], -1, patches.fitted.shape[2])
    outputs = torch.cat([patches.fitted, patches.held_out], 1) @ rows.transpose(1, 2)
    outputs = outputs.transpose(0, 1).flatten(1)
    bias = quantized.inner.bias
    exact = layer(x).movedim(1, -1) if isinstance(layer, nn.Conv2d) else layer(x)
    exact = exact.reshape(-1, exact.shape[-1]) - (0 if bias is None else bias)
    assert torch.allclose(outputs, exact, atol=1e-5)
    fewer = take_patches(quantized, x, 11)
    assert (fewer.fitted.shape[1], fewer.held_out.shape[1]) == (11, 3)
    assert torch.equal(fewer.fitted, take_patches(quantized, x, 11).fitted)


class Twice(nn.Module):
    """Uses a layer twice, with inputs of different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = 10 * self.conv(x).relu() + 5
        out: Tensor = self.fc(self.conv(x).mean((2, 3)))
        return out


@pytest.mark.parametrize("method", [StepSearch(), Reconstruction()])
def test_a_layer_used_twice_is_calibrated_on_both_inputs(method: PostTraining) -> None:
    torch.manual_seed(0)
    network, x = Twice().eval(), torch.rand(20, 1, 8, 8)
    layer = ready(network, x, (8,), method).layers[0]
    largest = float((10 * network.conv(x).relu() + 5).detach().max())
    assert float(layer.activation_range) == pytest.approx(largest)
    assert float(layer.activation_log_step.exp()) * 255 > 0.8 * largest


@pytest.mark.parametrize("images", [1, 2, 4, 5])
def test_few_images(images: int, floats: nn.Module, tiny_input: Tensor) -> None:
    quantized = ready(floats, tiny_input[:images])
    for bits in BITS:
        assert bool(torch.isfinite(quantized(tiny_input, quantized.uniform(bits))).all())


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0 * x


def test_inputs_that_are_always_zero() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), Nothing(), nn.Conv2d(2, 3, 3), nn.Flatten())
    x = torch.rand(6, 1, 6, 6)
    quantized = ready(network.eval(), x)
    for bits in BITS:
        logits = quantized(x, quantized.uniform(bits))
        assert torch.allclose(logits, network(x), atol=1e-4)


def test_one_step_for_all_channels_keeps_nearest_rounding(
    floats: nn.Module, tiny_input: Tensor
) -> None:
    quantized = ready(floats, tiny_input, per_channel=False)
    plain = ready(floats, tiny_input, method=StepSearch(), per_channel=False)
    for bits in BITS:
        assignment = plain.uniform(bits)
        assert torch.equal(quantized(tiny_input, assignment), plain(tiny_input, assignment))


@pytest.mark.parametrize("place", range(3))
def test_layers_of_very_many_weights_keep_nearest_rounding(
    place: int, rebuilt: QuantizedNetwork, floats: nn.Module, tiny_input: Tensor
) -> None:
    """Second moments of their inputs would not fit into memory."""

    def weights(layer: QuantizedLayer) -> int:
        return layer.inner.weight[0].numel()

    widest = sorted({weights(layer) for layer in rebuilt.layers})[place]
    quantized = ready(floats, tiny_input, method=Reconstruction(widest=widest))
    plain = ready(floats, tiny_input, method=StepSearch())
    for index, layer in enumerate(quantized.layers):
        x = received(floats, tiny_input, layer.spec.name)
        expected = (rebuilt if weights(layer) <= widest else plain).layers[index]
        for bits in BITS:
            assert torch.equal(
                layer.compute(x, LayerBits(bits, 8)), expected.compute(x, LayerBits(bits, 8))
            )


# Its life.


def same(one: QuantizedNetwork, other: QuantizedNetwork, x: Tensor) -> bool:
    return all(torch.equal(one(x, one.uniform(b)), other(x, one.uniform(b))) for b in (*BITS, 32))


def test_it_is_deterministic_and_can_be_copied(
    rebuilt: QuantizedNetwork, floats: nn.Module, tiny_input: Tensor
) -> None:
    assert same(ready(floats, tiny_input), rebuilt, tiny_input)
    assert same(copy.deepcopy(rebuilt), rebuilt, tiny_input)
    assert same(pickle.loads(pickle.dumps(rebuilt)), rebuilt, tiny_input)
    other = ready(floats, tiny_input[:10])
    assert not same(other, rebuilt, tiny_input)
    other.load_state_dict(rebuilt.state_dict())
    assert same(other, rebuilt, tiny_input)


def test_calibration_forgets_it(rebuilt: QuantizedNetwork, tiny_input: Tensor) -> None:
    network = copy.deepcopy(rebuilt)
    network.calibrate(tiny_input)
    assert not [layer for layer in network.layers if layer.rounded is not None]
    assert not [name for name in network.state_dict() if "rounded" in name]


def test_batch_norm_that_follows_can_still_be_folded(
    tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    network = ready(tiny_network, tiny_input).double()
    folded, x = network.folded(), tiny_input.double()
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    for bits in (*BITS, 32):
        assignment = network.uniform(bits)
        assert torch.allclose(folded(x, assignment), network(x, assignment), atol=1e-9), bits


def test_a_problem_is_evaluated_with_it_and_trained_without(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = make_tiny_problem()
    assert all(layer.rounded is not None for layer in problem.quantized.layers)
    assert not [m for m in problem.trainable().modules() if getattr(m, "rounded", None)]
    plain = make_tiny_problem(post_training=StepSearch())
    layers: list[QuantizedLayer] = plain.quantized.layers
    assert all(layer.rounded is None for layer in layers)
