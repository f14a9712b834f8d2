"""Linear layers over tokens, whose channels come last, are convolutions of 1 x 1."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dqmq_env.evaluation.statistic_table import channel_means_bops, statistics_bops
from dqmq_env.evaluation.statistics import (
    activation_statistics,
    batch_statistics,
    channel_means,
)
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.channels import channels_second, on_channels
from dqmq_env.quantization.choice import ImageBits, LayerChoice, Modulated, RelaxedBits
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.tracing import trace_layers

IMAGES, INPUTS, OUTPUTS = 6, 5, 7
BITS = (2, 3, 4)


def layer_over(sides: tuple[int, ...], linear: bool, aligned: bool) -> QuantizedLayer:
    """A layer over places, as a linear one (N, ..., C) or as a convolution (N, C, H, W)."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(OUTPUTS, INPUTS, generator=generator)
    bias = torch.randn(OUTPUTS, generator=generator)
    inner = nn.Linear(INPUTS, OUTPUTS) if linear else nn.Conv2d(INPUTS, OUTPUTS, 1)
    with torch.no_grad():
        inner.weight.copy_(weight.view_as(inner.weight))
        assert inner.bias is not None
        inner.bias.copy_(bias)
    x = images_of(sides, linear)
    network = nn.Sequential(inner)
    specs = trace_layers(network, x[:1])
    quantized = QuantizedNetwork(network, specs, {"0": BITS})
    quantized.calibrate(x)
    layer = quantized.layers[0]
    if aligned:
        layer.align(x)
    return layer.train()


def images_of(sides: tuple[int, ...], linear: bool) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(IMAGES, *sides, INPUTS, generator=generator)
    return x if linear else as_map(x)


def as_map(x: Tensor) -> Tensor:
    """(N, ..., C) as (N, C, H, W)."""
    second = x.movedim(-1, 1)
    return second if second.ndim == 4 else second[..., None]


def relaxed(sample: Tensor | None) -> RelaxedBits:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(3, len(BITS), generator=generator).requires_grad_()
    probabilities = logits.softmax(1)
    probabilities.retain_grad()
    return RelaxedBits(probabilities, sample)


CHOICES: dict[str, Callable[[], LayerBits | ImageBits | RelaxedBits]] = {
    "one for all": lambda: LayerBits(3, 3),
    "by image": lambda: ImageBits(tuple(LayerBits(k % 3 + 2, k % 3 + 2) for k in range(IMAGES))),
    "expected": lambda: relaxed(None),
    "sampled": lambda: relaxed(torch.tensor([0, 2, 1])),
}


def modulated(bits: LayerBits | ImageBits | RelaxedBits) -> Modulated:
    generator = torch.Generator().manual_seed(3)
    scale = 1 + 0.3 * torch.randn(3, OUTPUTS, generator=generator)
    offset = torch.randn(3, OUTPUTS, generator=generator)
    return Modulated(bits, scale.requires_grad_(), offset.requires_grad_())


def leaves(layer: QuantizedLayer, choice: LayerChoice) -> list[Tensor]:
    bits = choice.bits if isinstance(choice, Modulated) else choice
    found = [own for own in layer.parameters() if own.requires_grad]
    if isinstance(choice, Modulated):
        found += [choice.scale, choice.offset]
    return found + ([bits.probabilities] if isinstance(bits, RelaxedBits) else [])


@pytest.mark.parametrize("sides", [(4,), (4, 3)])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("follows", [False, True])
@pytest.mark.parametrize("kind", list(CHOICES))
def test_outputs_and_gradients_are_those_of_a_convolution(
    sides: tuple[int, ...], aligned: bool, follows: bool, kind: str
) -> None:
    found = []
    for linear in (True, False):
        layer, bits = layer_over(sides, linear, aligned), CHOICES[kind]()
        choice = modulated(bits) if follows else bits
        x = images_of(sides, linear).requires_grad_()
        output = layer.compute(x, choice)
        with torch.no_grad():
            at_work = layer.eval().compute(x, choice)
        seen, worked = (as_map(own) if linear else own for own in (output, at_work))
        aim = torch.randn(seen.shape, generator=torch.Generator().manual_seed(4))
        (seen * aim).sum().backward()
        assert x.grad is not None
        grads = [own.grad for own in leaves(layer, choice)]
        found.append(
            [
                seen,
                worked,
                as_map(x.grad) if linear else x.grad,
                *[torch.zeros(()) if own is None else own.flatten() for own in grads],
            ]
        )
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("sides", [(), (4,), (4, 3), (5, 6)])
def test_what_is_looked_at_and_its_price(sides: tuple[int, ...]) -> None:
    """All tokens are; only rows and columns of maps are left out."""
    x, reach = images_of(sides, linear=True), torch.tensor(8.0)
    spec = trace_layers(nn.Sequential(nn.Linear(INPUTS, OUTPUTS)), x[:1])[0]
    assert spec.input_sides == sides
    spaced = x[:, ::2, ::2] if len(sides) == 2 else x
    places = spaced.reshape(3, -1, INPUTS)
    found = channel_means(x, spec.channel_axis, reach, groups=3)
    torch.testing.assert_close(found, places.mean(1) / reach)
    assert channel_means_bops(spec) == 8 * spaced[0].numel()
    sizes = places.abs().flatten(1)
    peak = sizes.amax(1) / 2
    expected = torch.stack([sizes.mean(1), sizes.square().mean(1).sqrt(), peak], 1) / reach
    rows = activation_statistics(x, spec.channel_axis, reach, groups=3)
    torch.testing.assert_close(rows[:, [0, 1, 3]], expected)
    parts = x.split(2)
    pooled = batch_statistics(parts, spec.channel_axis, reach)
    torch.testing.assert_close(pooled, activation_statistics(x, spec.channel_axis, reach)[0])
    assert statistics_bops(spec) == 88 * spaced[0].numel()


@pytest.mark.parametrize("groups", [1, 3])
def test_statistics_of_a_map_and_their_gradients_are_those_of_a_convolution(groups: int) -> None:
    found = []
    for linear in (True, False):
        x = images_of((5, 6), linear).requires_grad_()
        rows = activation_statistics(x, -1 if linear else 1, torch.tensor(8.0), groups)
        aim = torch.randn(rows.shape, generator=torch.Generator().manual_seed(2))
        (rows * aim).sum().backward()
        assert x.grad is not None
        found.append((rows, as_map(x.grad) if linear else x.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@given(sides=st.lists(st.integers(1, 4), max_size=3), axis=st.sampled_from([1, -1]))
def test_channels_come_back(sides: list[int], axis: int) -> None:
    shape = (2, 3, *sides) if axis == 1 else (2, *sides, 3)
    x = torch.arange(torch.Size(shape).numel()).view(shape)
    assert channels_second(x, axis).shape == (2, 3, *sides)
    assert torch.equal(on_channels(lambda own: own + 1, x, axis), x + 1)
