import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dqmq_env import BitAssignment, LayerBits, QuantizedNetwork
from dqmq_env.errors import AssignmentError
from dqmq_env.quantization.candidates import candidate_bits
from dqmq_env.quantization.choice import Modulated, RelaxedBits
from dqmq_env.quantization.quantizers import quantize
from dqmq_env.quantization.step_size import LearnedStepSize, MinMax
from dqmq_env.quantization.tracing import trace_layers

Quantize = Callable[..., QuantizedNetwork]
BITS = (2, 4, 8)


@pytest.fixture(scope="module")
def quantized(quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor) -> QuantizedNetwork:
    """The tiny network with 2, 4 or 8 bits in every layer; not changed by any test."""
    return quantize(tiny_network, tiny_input, BITS).requires_grad_(False)


@pytest.fixture(scope="module")
def images(tiny_input: Tensor) -> Tensor:
    return tiny_input[:6]


def one_hot(positions: Tensor) -> Tensor:
    return F.one_hot(positions, len(BITS)).float()


def draw_positions(network: QuantizedNetwork, groups: int, seed: int) -> Tensor:
    """A candidate's position for each layer and group, shape (layers, groups)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(len(BITS), (len(network.specs), groups), generator=generator)


def hard(network: QuantizedNetwork, positions: Tensor) -> BitAssignment:
    return BitAssignment(
        {
            spec.name: (BITS[int(k)], BITS[int(k)])
            for spec, k in zip(network.specs, positions, strict=True)
        }
    )


def relaxed(
    network: QuantizedNetwork, probabilities: Tensor, samples: Tensor | None = None
) -> dict[str, RelaxedBits]:
    """From probabilities (layers, groups, K), and positions (layers, groups) that were sampled."""
    return {
        spec.name: RelaxedBits(probabilities[i], None if samples is None else samples[i])
        for i, spec in enumerate(network.specs)
    }


# Candidates.


def test_candidates_of_the_ends_are_their_own(quantized: QuantizedNetwork) -> None:
    candidates = candidate_bits(quantized.specs, [8, 2, 4])
    assert candidates["conv1"] == candidates["fc"] == (8,)
    assert {candidates[spec.name] for spec in quantized.specs[1:-1]} == {(2, 4, 8)}
    free = candidate_bits(quantized.specs, [3], first=None, last=6)
    assert (free["conv1"], free["fc"]) == ((3,), (6,))


@pytest.mark.parametrize(
    ("bits", "ends", "message"),
    [
        ([], {}, "bits: got"),
        ([2, 2], {}, "bits: got"),
        ([0], {}, "bits: got"),
        ([2, 9], {}, "bits: got"),
        ([2, 32], {}, "bits: got"),
        ([2.0], {}, "bits: got"),
        ([2], {"first": 9}, "first: got 9"),
        ([2], {"first": 32}, "first: got 32"),
        ([2], {"last": 32}, "last: got 32"),
        ([2], {"last": True}, "last: got True"),
    ],
)
def test_other_candidates_are_refused(
    quantized: QuantizedNetwork, bits: list[int], ends: dict[str, int], message: str
) -> None:
    with pytest.raises(AssignmentError, match=message):
        candidate_bits(quantized.specs, bits, **ends)


# The hard form.


def test_float_bits_give_the_float_network(
    quantized: QuantizedNetwork, tiny_network: nn.Module, images: Tensor
) -> None:
    assert torch.equal(quantized(images, quantized.uniform(32)), tiny_network(images))


def test_each_layer_computes_with_rounded_weights_and_input(
    quantized: QuantizedNetwork, images: Tensor
) -> None:
    """Recompute one layer from its steps alone."""
    layer = quantized.layers[1]
    x = torch.rand(3, 4, 7, 7)
    for position, bits in enumerate(BITS):
        weight = quantize(
            layer.inner.weight,
            layer.weight_log_step[position].exp().view(-1, 1, 1, 1),
            layer.weight_grid(position),
        )
        rounded = quantize(
            x, layer.activation_log_step[position].exp(), layer.activation_grid(position)
        )
        assert len(rounded.unique()) <= 2**bits
        assert all(len(channel.unique()) <= 2**bits for channel in weight)
        expected = F.conv2d(rounded, weight, stride=layer.inner.stride, padding=1)
        assert torch.equal(layer.compute(x, LayerBits(bits, bits)), expected)


def test_weights_and_activations_may_differ_in_bits(
    quantized: QuantizedNetwork, images: Tensor
) -> None:
    mixed = dict.fromkeys(quantized.candidates, (8, 2))
    outputs = [
        quantized(images, bits)
        for bits in (BitAssignment(mixed), quantized.uniform(8), quantized.uniform(2))
    ]
    assert not torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_more_bits_are_nearer_to_float(
    quantized: QuantizedNetwork, tiny_input: Tensor, tiny_network: nn.Module
) -> None:
    exact = tiny_network(tiny_input).detach()
    errors = [
        float((quantized(tiny_input, quantized.uniform(bits)) - exact).norm() / exact.norm())
        for bits in BITS
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05


def test_one_step_for_all_channels(
    quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    network = quantize(tiny_network, tiny_input, BITS, per_channel=False)
    assert all(layer.weight_log_step.shape == (3, 1) for layer in network.layers)
    weight = network.layers[3].quantized_weight(2)
    assert len(weight.unique()) <= 4


def test_the_input_network_is_not_changed(
    quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    before = copy.deepcopy(tiny_network.state_dict())
    network = quantize(tiny_network, tiny_input, BITS)
    network.train()
    network(tiny_input, network.uniform(4)).square().sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    after = tiny_network.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not tiny_network.training
    assert all(parameter.grad is None for parameter in tiny_network.parameters())


def test_changed_weights_and_steps_are_noticed(
    quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    """Rounded weights are kept between calls; training must not go on with old ones."""
    network = quantize(tiny_network, tiny_input, BITS)
    bits = network.uniform(4)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(2):
        with torch.no_grad():
            before = network(tiny_input, bits)
        optimizer.zero_grad()
        network(tiny_input, bits).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            after = network(tiny_input, bits)
        fresh = copy.deepcopy(network)
        fresh.load_state_dict(network.state_dict())
        assert not torch.equal(before, after)
        assert torch.equal(after, fresh(tiny_input, bits).detach())
    with torch.no_grad():
        network.layers[2].weight_log_step.add_(0.7)
        assert not torch.equal(network(tiny_input, bits), after)
        network.load_state_dict(fresh.state_dict())
        assert torch.equal(network(tiny_input, bits), after)


class TwoNames(nn.Module):
    """One convolution under two names, which is called by both, and one called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.one = nn.Conv2d(4, 4, 3, padding=1)
        self.other = self.one
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.other(self.one(self.stem(x)).relu()).relu()
        return self.head(x.mean((2, 3)))


def test_a_shared_layer_is_quantised_at_every_use(quantize: Quantize, tiny_input: Tensor) -> None:
    torch.manual_seed(0)
    network = TwoNames().eval()
    quantized = quantize(network, tiny_input, BITS)
    assert list(quantized.candidates) == ["stem", "one", "head"]
    bits = BitAssignment({"stem": (32, 32), "one": (2, 32), "head": (32, 32)})
    with torch.no_grad():
        rounded = copy.deepcopy(network)
        rounded.one.weight.copy_(quantized.layers[1].quantized_weight(2))
        assert torch.equal(quantized(tiny_input, bits), rounded(tiny_input))


def test_bits_that_do_not_fit_are_refused(quantized: QuantizedNetwork, images: Tensor) -> None:
    full = dict(quantized.uniform(4))
    without = {name: bits for name, bits in full.items() if name != "fc"}
    with pytest.raises(AssignmentError, match=r"without bits: \['fc'\], unknown layers: \[\]"):
        quantized(images, BitAssignment(without))
    with pytest.raises(AssignmentError, match=r"unknown layers: \['more'\]"):
        quantized(images, BitAssignment({**full, "more": (4, 4)}))
    with pytest.raises(AssignmentError, match=r"fc: got 5 bits, .* \[2, 4, 8\]"):
        quantized(images, BitAssignment({**full, "fc": (8, 5)}))
    with pytest.raises(AssignmentError, match=r"bits: got 3, the candidates of conv1"):
        quantized.uniform(3)
    # nothing is left of the failed passes
    logits = quantized(images, quantized.uniform(4))
    assert torch.equal(logits, quantized(images, BitAssignment(full)))


def test_layers_with_one_candidate_keep_it(
    quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    network = quantize(tiny_network, tiny_input, (2, 4), first=8, last=6)
    bits = network.uniform(4)
    assert (bits["conv1"], bits["fc"], bits["layer1.0.conv1"]) == ((8, 8), (6, 6), (4, 4))


def test_a_layer_does_not_run_alone(quantized: QuantizedNetwork) -> None:
    with pytest.raises(RuntimeError, match=r"inside QuantizedNetwork\.forward"):
        quantized.layers[0](torch.zeros(1, 1, 28, 28))


def test_a_chooser_sees_each_activation_in_order(
    quantized: QuantizedNetwork, images: Tensor
) -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []

    def chooser(index: int, activation: Tensor) -> LayerBits:
        seen.append((index, tuple(activation.shape[1:])))
        return LayerBits(4, 4)

    logits = quantized(images, chooser)
    assert seen == [(i, spec.input_shape) for i, spec in enumerate(quantized.specs)]
    assert torch.equal(logits, quantized(images, quantized.uniform(4)))


# Calibration.


def test_calibration_sets_steps_range_and_zero_points(
    quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    specs = trace_layers(tiny_network, tiny_input[:1])
    network = QuantizedNetwork(tiny_network, specs, candidate_bits(specs, BITS, None, None))
    network.calibrate(tiny_input, MinMax(), MinMax())
    first, second = network.layers[:2]
    assert float(first.activation_range) == float(tiny_input.abs().max())
    # normalised images are negative at places, what comes out of a ReLU is not
    assert first.activation_zero.tolist() == [
        round(float(-tiny_input.min() / (tiny_input.max() - tiny_input.min())) * (2**bits - 1))
        for bits in BITS
    ]
    assert second.activation_zero.tolist() == [0, 0, 0]
    largest = first.inner.weight.flatten(1)
    expected = torch.maximum(largest.amax(1) / 127, largest.amin(1) / -128)
    assert torch.allclose(first.weight_log_step[2].exp(), expected)
    step = second.activation_log_step[1].detach().exp()
    assert float(step * 15) == pytest.approx(float(second.activation_range), rel=1e-5)


def test_modes_are_kept(tiny_network: nn.Module, tiny_input: Tensor) -> None:
    """A network to be trained whose first batch norm is frozen stays one."""
    network = copy.deepcopy(tiny_network).train()
    network.bn1.eval()
    specs = trace_layers(network, tiny_input[:1])
    quantized = QuantizedNetwork(network, specs, candidate_bits(specs, BITS))
    quantized.calibrate(tiny_input)
    for modes in (network, quantized.network):
        assert [part for part in modes.modules() if not part.training] == [modes.bn1]
    assert quantized.training
    assert not QuantizedNetwork(tiny_network, specs, candidate_bits(specs, BITS)).training


def test_calibration_looks_at_no_more_values_than_it_says() -> None:
    class Count:
        most = 0

        def __call__(self, values: Tensor, grid: object) -> Tensor:
            self.most = max(self.most, values.shape[1])
            return torch.ones(len(values))

    count = Count()
    for side in (180, 200, 250, 256, 300):
        network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        x = torch.rand(1, 1, side, side)
        specs = trace_layers(network, x)
        quantized = QuantizedNetwork(network, specs, candidate_bits(specs, [8]))
        quantized.calibrate(x, activation_rule=count)
    assert count.most <= 2**15


def test_training_copy_starts_where_lsq_does(
    quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    network = quantize(tiny_network, tiny_input, BITS)
    network.calibrate(tiny_input, LearnedStepSize(), LearnedStepSize())
    layer = network.layers[2]
    expected = 2 * layer.inner.weight.abs().mean((1, 2, 3)) / math.sqrt(7)
    assert torch.allclose(layer.weight_log_step[1].exp(), expected)


@pytest.mark.parametrize("bits", range(1, 9))
def test_mostly_negative_input(quantize: Quantize, bits: int) -> None:
    """Its zero point is at, or next to, the upper end of the grid."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    x = -torch.rand(50, 1, 4, 4) + 0.001
    quantized = quantize(network, x, (bits,))
    logits = quantized(x, quantized.uniform(bits))
    logits.sum().backward()
    assert bool(torch.isfinite(logits).all())
    assert bool(torch.isfinite(quantized.layers[0].activation_log_step.grad).all())


def test_dead_layers_and_inputs_give_no_nan(quantize: Quantize) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)).eval()
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.zero_()
    quantized = quantize(network, torch.rand(8, 1, 4, 4), (1, 2, 8))
    for bits in (1, 2, 8):
        logits = quantized(torch.rand(3, 1, 4, 4), quantized.uniform(bits))
        logits.sum().backward()
        assert bool(torch.isfinite(logits).all())
    assert all(bool(torch.isfinite(p.grad).all()) for p in quantized.parameters())


# Gradients of the hard form.


def test_step_gradients_are_those_of_lsq(
    quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    """d loss / d log s = s * g * sum(dL/dq * slope), g = 1 / sqrt(count * max(high, 1))."""
    network = quantize(tiny_network, tiny_input, BITS)
    layer = network.layers[1]
    x = (torch.rand(4, 4, 7, 7) * layer.activation_range * 1.5).requires_grad_()
    position, bits = 1, 4
    with torch.no_grad():
        layer.weight_log_step.sub_(0.3)  # so that some weights are clipped
        layer.activation_log_step.sub_(0.3)
    output = layer.compute(x, LayerBits(bits, bits))
    upstream = torch.randn_like(output)
    output.backward(upstream)

    weight_step = layer.weight_log_step[position].exp().detach().view(-1, 1, 1, 1)
    input_step = layer.activation_log_step[position].exp().detach()
    w, a = layer.inner.weight.detach(), x.detach()
    rounded_w = quantize_by_hand(w, weight_step, -8, 7).requires_grad_()
    rounded_a = quantize_by_hand(a, input_step, 0, 15).requires_grad_()
    F.conv2d(rounded_a, rounded_w, stride=1, padding=1).backward(upstream)
    assert rounded_w.grad is not None
    assert rounded_a.grad is not None

    inside = (w / weight_step > -8) & (w / weight_step < 7)
    assert not bool(inside.all())
    assert torch.allclose(layer.inner.weight.grad, rounded_w.grad * inside, atol=1e-6)
    slope = (rounded_w.detach() - w * inside) / weight_step
    expected = (rounded_w.grad * slope).sum((1, 2, 3)) * weight_step.flatten()
    expected = expected / math.sqrt(w[0].numel() * 7)
    assert torch.allclose(layer.weight_log_step.grad[position], expected, rtol=1e-4, atol=1e-6)

    inside = (a / input_step > 0) & (a / input_step < 15)
    assert not bool(inside.all())
    assert torch.allclose(x.grad, rounded_a.grad * inside, atol=1e-6)
    slope = (rounded_a.detach() - a * inside) / input_step
    single = (rounded_a.grad * slope).sum() * input_step / math.sqrt(4 * 28 * 28 * 15)
    assert float(layer.activation_log_step.grad[position]) == pytest.approx(
        float(single), rel=1e-4, abs=1e-6
    )
    # other candidates had no part in it
    assert float(layer.activation_log_step.grad[[0, 2]].abs().max()) == 0


def quantize_by_hand(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    return (x / step).round().clamp(low, high) * step


def test_forward_is_the_same_with_and_without_gradients(
    quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    network = quantize(tiny_network, tiny_input, BITS)
    for bits in BITS:
        tracked = network(tiny_input, network.uniform(bits))
        assert tracked.requires_grad
        with torch.no_grad():
            assert torch.equal(tracked, network(tiny_input, network.uniform(bits)))


# The relaxed form.


@settings(max_examples=10)
@given(seed=st.integers(0, 999), sampled=st.booleans())
def test_one_hot_probabilities_equal_the_hard_form(
    quantized: QuantizedNetwork, images: Tensor, seed: int, sampled: bool
) -> None:
    positions = draw_positions(quantized, 1, seed)
    bits = relaxed(quantized, one_hot(positions), positions if sampled else None)
    expected = quantized(images, hard(quantized, positions[:, 0]))
    assert torch.equal(quantized(images, bits), expected)
    tracked = relaxed(
        quantized, one_hot(positions).requires_grad_(), positions if sampled else None
    )
    assert torch.equal(quantized(images, tracked).detach(), expected)


@settings(max_examples=10)
@given(seed=st.integers(0, 999), sampled=st.booleans(), groups=st.sampled_from([2, 3, 6]))
def test_each_group_equals_itself_alone_at_its_bits(
    quantized: QuantizedNetwork, images: Tensor, seed: int, sampled: bool, groups: int
) -> None:
    positions = draw_positions(quantized, groups, seed)
    probabilities = one_hot(positions).requires_grad_()
    logits = quantized(images, relaxed(quantized, probabilities, positions if sampled else None))
    for group, rows in enumerate(images.split(len(images) // groups)):
        alone = quantized(rows, hard(quantized, positions[:, group]))
        together = logits.detach().split(len(rows))[group]
        assert torch.allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_groups_at_the_same_bits_equal_one_group(
    quantized: QuantizedNetwork, images: Tensor
) -> None:
    positions = draw_positions(quantized, 1, 5)
    expected = quantized(images, hard(quantized, positions[:, 0]))
    for groups in (1, 2, len(images)):
        same = positions.expand(-1, groups)
        for sample in (None, same):
            bits = relaxed(quantized, one_hot(same), sample)
            assert torch.equal(quantized(images, bits), expected)


@settings(max_examples=15)
@given(seed=st.integers(0, 999), groups=st.sampled_from([1, 2, 6]))
def test_the_expectation_is_the_weighted_mean_of_outputs(
    quantized: QuantizedNetwork, seed: int, groups: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    layer = quantized.layers[1]
    x = torch.rand(6, 4, 7, 7, generator=generator)
    probabilities = torch.rand(groups, len(BITS), generator=generator).softmax(1)
    outputs = torch.stack([layer.compute(x, LayerBits(bits, bits)) for bits in BITS], 1)
    share = probabilities.repeat_interleave(6 // groups, 0)[:, :, None, None, None]
    expected = (outputs * share).sum(1)
    result = layer.compute(x, RelaxedBits(probabilities))
    assert torch.allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_layer_gradients_of_probabilities_are_exact(quantized: QuantizedNetwork) -> None:
    """The output is linear in probabilities, so that a finite difference is exact."""
    layer = copy.deepcopy(quantized.layers[1]).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(6, 4, 7, 7, generator=generator, dtype=torch.float64)
    probabilities = torch.rand(2, 3, generator=generator, dtype=torch.float64).softmax(1)
    weights = torch.randn(6, 4, 7, 7, generator=generator, dtype=torch.float64)

    def loss(p: Tensor) -> Tensor:
        return (layer.compute(x, RelaxedBits(p)) * weights).sum()

    tracked = probabilities.clone().requires_grad_()
    loss(tracked).backward()
    for group in range(2):
        for k in range(3):
            moved = [probabilities.clone() for _ in range(2)]
            moved[0][group, k] += 0.05
            moved[1][group, k] -= 0.05
            difference = float((loss(moved[0]) - loss(moved[1])).detach()) / 0.1
            assert tracked.grad is not None
            assert float(tracked.grad[group, k]) == pytest.approx(difference, rel=1e-9, abs=1e-9)


def test_network_gradients_of_probabilities_match_finite_differences(
    quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    """Of the last layer: nothing is rounded after it, so that the loss is smooth in them."""
    network = quantize(tiny_network, tiny_input, BITS).double()
    images = tiny_input[:6].double()
    labels = torch.arange(6)
    positions = draw_positions(network, 1, 3)
    fixed = one_hot(positions).double()
    start = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64)

    def loss(last: Tensor) -> Tensor:
        probabilities = [*fixed[:-1], last]
        bits = {
            spec.name: RelaxedBits(p) for spec, p in zip(network.specs, probabilities, strict=True)
        }
        return F.cross_entropy(network(images, bits), labels)

    tracked = start.clone().requires_grad_()
    loss(tracked).backward()
    assert tracked.grad is not None
    for k in range(3):
        step = torch.zeros_like(start)
        step[0, k] = 1e-5
        difference = float((loss(start + step) - loss(start - step)).detach()) / 2e-5
        assert float(tracked.grad[0, k]) == pytest.approx(difference, rel=1e-5, abs=1e-8)


def test_gradients_reach_probabilities_of_every_layer(
    quantized: QuantizedNetwork, images: Tensor
) -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(len(quantized.specs), 2, 3, generator=generator).softmax(2)
    sample = draw_positions(quantized, 2, 0)
    for chosen in (None, sample):
        tracked = probabilities.clone().requires_grad_()
        F.cross_entropy(
            quantized(images, relaxed(quantized, tracked, chosen)), torch.arange(6)
        ).backward()
        assert tracked.grad is not None
        assert bool(torch.isfinite(tracked.grad).all())
        assert bool((tracked.grad.abs().sum((1, 2)) > 0).all())


@settings(max_examples=15)
@given(
    seed=st.integers(0, 999),
    groups=st.sampled_from([1, 2, 3, 6]),
    layer_index=st.sampled_from([0, 3, 7]),
)
def test_credit_of_the_sampled_form(
    quantized: QuantizedNetwork, seed: int, groups: int, layer_index: int
) -> None:
    """<dL/dy, y_k - y_s> for the candidates next to the sampled one, zero for the others."""
    generator = torch.Generator().manual_seed(seed)
    layer = quantized.layers[layer_index]
    x = torch.rand(6, *layer.spec.input_shape, generator=generator)
    probabilities = torch.full((groups, 3), 1 / 3).requires_grad_()
    sample = torch.randint(3, (groups,), generator=generator)
    output = layer.compute(x, RelaxedBits(probabilities, sample))
    upstream = torch.randn(output.shape, generator=generator)
    output.backward(upstream)

    outputs = [layer.compute(x, LayerBits(bits, bits)) for bits in BITS]
    expected = torch.zeros(groups, 3)
    size = 6 // groups
    for group in range(groups):
        rows = slice(group * size, (group + 1) * size)
        s = int(sample[group])
        for k in range(3):
            if abs(k - s) == 1:
                change = outputs[k][rows] - outputs[s][rows]
                expected[group, k] = (upstream[rows] * change).sum()
    assert probabilities.grad is not None
    assert torch.allclose(probabilities.grad, expected, rtol=1e-3, atol=1e-4)


def test_improbable_neighbours_get_no_credit(quantized: QuantizedNetwork) -> None:
    layer = quantized.layers[1]
    probabilities = torch.tensor([[1e-4, 0.9, 0.0999]]).requires_grad_()
    output = layer.compute(torch.rand(2, 4, 7, 7), RelaxedBits(probabilities, torch.tensor([1])))
    output.sum().backward()
    assert probabilities.grad is not None
    assert (probabilities.grad != 0).tolist() == [[False, False, True]]


def test_sampled_form_passes_gradients_to_input_weights_and_steps(
    quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    """They are those of each group alone, added up where they share a parameter."""
    network = quantize(tiny_network, tiny_input, BITS)
    layer = network.layers[1]
    x = torch.rand(6, 4, 7, 7, requires_grad=True)
    upstream = torch.randn(6, 4, 7, 7)
    sample = torch.tensor([2, 0, 2])
    layer.compute(x, RelaxedBits(torch.full((3, 3), 1 / 3), sample)).backward(upstream)
    together = [x.grad, layer.inner.weight.grad, layer.activation_log_step.grad]
    layer.zero_grad()
    rows = x.detach().clone().requires_grad_()
    for group in range(3):
        part = slice(2 * group, 2 * group + 2)
        bits = BITS[int(sample[group])]
        layer.compute(rows[part], LayerBits(bits, bits)).backward(upstream[part])
    apart = [rows.grad, layer.inner.weight.grad, layer.activation_log_step.grad]
    for one, other in zip(together, apart, strict=True):
        assert one is not None
        assert other is not None
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


class WritesIntoOutputs(nn.Module):
    """Changes what its layers give, in place or not."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.one, self.two = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x), inplace=self.in_place)
        y = self.two(x)
        if self.in_place:
            y += x
        else:
            y = y + x
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize("sample", [None, [1, 1, 1, 1], [0, 2, 1, 2], [1], [2, 0]])
@pytest.mark.parametrize("channels_last", [False, True])
def test_networks_may_write_into_the_output_of_a_layer(
    quantize: Quantize, sample: list[int] | None, channels_last: bool
) -> None:
    x = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    gradients = []
    for in_place in (False, True):
        torch.manual_seed(0)
        network = quantize(WritesIntoOutputs(in_place).eval(), x, BITS)
        if channels_last:
            network.to(memory_format=torch.channels_last)
        groups = 4 if sample is None else len(sample)
        probabilities = torch.full((groups, 3), 1 / 3).requires_grad_()
        chosen = None if sample is None else torch.tensor(sample)
        choice = RelaxedBits(probabilities, chosen)
        network(x, dict.fromkeys(network.candidates, choice)).square().sum().backward()
        gradients.append([probabilities.grad, *(p.grad for p in network.parameters())])
    assert gradients[0][0] is not None
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


def test_calibration_sees_which_outputs_are_written_into(
    quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    x = torch.randn(4, 1, 6, 6)
    written = quantize(WritesIntoOutputs(in_place=True).eval(), x, BITS)
    assert [layer.written_into for layer in written.layers] == [True, True, False]
    left = quantize(WritesIntoOutputs(in_place=False).eval(), x, BITS)
    assert not any(layer.written_into for layer in left.layers)
    network = quantize(tiny_network, tiny_input, BITS)
    assert not any(layer.written_into for layer in network.layers)
    folded = network.folded().layers
    assert any(layer.written_into for layer in folded)  # what follows is no batch norm any more


@settings(max_examples=15)
@given(seed=st.integers(0, 999), groups=st.sampled_from([1, 2, 6]), written=st.booleans())
def test_credit_counts_what_is_scaled_and_shifted(
    quantized: QuantizedNetwork, seed: int, groups: int, written: bool
) -> None:
    """As without: <dL/dz, z_k - z_s>, with z what the layer gives after scale and offset."""
    generator = torch.Generator().manual_seed(seed)
    layer = copy.deepcopy(quantized.layers[1])
    layer.written_into = written
    x = torch.rand(6, 4, 7, 7, generator=generator)
    probabilities = torch.full((groups, 3), 1 / 3).requires_grad_()
    sample = torch.randint(3, (groups,), generator=generator)
    scale = torch.randn(groups, 4, generator=generator)
    offset = torch.randn(groups, 4, generator=generator)
    output = layer.compute(x, Modulated(RelaxedBits(probabilities, sample), scale, offset))
    upstream = torch.randn(output.shape, generator=generator)
    output.backward(upstream)

    size = 6 // groups
    outputs = [
        layer.compute(x, Modulated(LayerBits(bits, bits), scale, offset)).detach() for bits in BITS
    ]
    gains = torch.stack([(upstream * own).flatten(1).sum(1) for own in outputs], 1)
    gains = gains.unflatten(0, (groups, size)).sum(1)
    gains = gains - gains.gather(1, sample[:, None])
    near = (torch.arange(3) - sample[:, None]).abs() == 1
    assert probabilities.grad is not None
    torch.testing.assert_close(probabilities.grad, gains * near, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "sample"),
    [
        ((3,), None),
        ((1, 2), None),
        ((1, 4), None),
        ((4, 3), None),
        ((0, 3), None),
        ((12, 3), None),
        ((1, 1, 3), None),
        ((2, 3), [0]),
        ((2, 3), [0, 1, 2]),
        ((2, 3), [[0], [1]]),
        ((2, 3), [0, 3]),
        ((2, 3), [0, -1]),
    ],
)
def test_relaxed_bits_that_do_not_fit_are_refused(
    quantized: QuantizedNetwork,
    images: Tensor,
    shape: tuple[int, ...],
    sample: list[int] | None,
) -> None:
    probabilities = torch.full(shape, 1 / 3)
    choice = RelaxedBits(probabilities, None if sample is None else torch.tensor(sample))
    with pytest.raises(AssignmentError, match="conv1: got"):
        quantized(images, {spec.name: choice for spec in quantized.specs})


# Folding.


def test_folded_equals_unfolded(
    quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    network = quantize(tiny_network, tiny_input, range(2, 9))
    folded = network.folded()
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    for bits in (*range(2, 9), 32):
        assignment = network.uniform(bits)
        change = (folded(tiny_input, assignment) - network(tiny_input, assignment)).abs().amax(1)
        # where an activation lies between two codes, the last bit of a float decides
        assert float((change < 1e-4).double().mean()) > 0.9, bits
    precise = copy.deepcopy(network).double()
    folded, x = precise.folded(), tiny_input.double()
    for bits in (*range(2, 9), 32):
        assignment = network.uniform(bits)
        assert torch.allclose(folded(x, assignment), precise(x, assignment), atol=1e-9), bits


def test_folding_leaves_the_network_alone(
    quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    network = quantize(tiny_network, tiny_input, BITS).train()
    before = copy.deepcopy(network.state_dict())
    folded = network.folded()
    assert network.training
    assert not folded.training
    assert [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
