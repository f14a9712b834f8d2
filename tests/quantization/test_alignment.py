"""Norms of each option of a layer."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.alignment import Alignment
from dqmq_env.quantization.choice import ImageBits
from dqmq_env.quantization.network import QuantizedNetwork


@pytest.fixture
def network(make_tiny_problem: Callable[..., NetworkProblem]) -> QuantizedNetwork:
    return make_tiny_problem(bits=(1, 2, 4), weight_bits=2, granularity="image").trainable().eval()


@pytest.fixture
def images(make_tiny_problem: Callable[..., NetworkProblem]) -> torch.Tensor:
    problem = make_tiny_problem(bits=(1, 2, 4), weight_bits=2, granularity="image")
    return problem.normalize(problem.data.train.images[:48])


def alignment_of(options: int = 2, channels: int = 3) -> Alignment:
    return Alignment(options, torch.arange(channels) - 1.0, torch.arange(channels) + 0.5)


def test_it_begins_as_the_identity(network: QuantizedNetwork, images: torch.Tensor) -> None:
    bits = [network.uniform(width) for width in (1, 2, 4)]
    before = [network(images, own) for own in bits]
    network.align(images)
    for own, logits in zip(bits, before, strict=True):
        torch.testing.assert_close(network(images, own), logits, atol=1e-4, rtol=1e-4)
    aligned = [layer.alignment is not None for layer in network.layers]
    assert aligned == [len(layer.options) > 1 for layer in network.layers]
    assert not any(part.training for part in network.modules())


@pytest.mark.parametrize("training", [True, False])
def test_it_takes_the_mode_of_its_layer(
    network: QuantizedNetwork, images: torch.Tensor, training: bool
) -> None:
    network.train(training)
    network.align(images)
    assert all(part.training == training for part in network.modules())


def test_in_training_each_option_has_the_same_mean_and_spread() -> None:
    alignment = alignment_of()
    torch.manual_seed(0)
    for option, scale in ((0, 1.0), (1, 9.0)):
        output = alignment(torch.randn(64, 3, 5, 5) * scale + scale, option)
        channels = output.transpose(0, 1).flatten(1)
        torch.testing.assert_close(
            channels.mean(1), torch.tensor([-1.0, 0.0, 1.0]), atol=1e-4, rtol=0
        )
        wanted = torch.tensor([0.5, 1.5, 2.5])
        torch.testing.assert_close(channels.var(1, correction=0), wanted, atol=1e-3, rtol=1e-3)


def test_images_of_another_option_in_the_batch_do_not_matter_to_the_layer(
    network: QuantizedNetwork, images: torch.Tensor
) -> None:
    network.align(images)
    layer = network.train().layers[1]
    torch.manual_seed(0)
    x = torch.randn(12, *layer.spec.input_shape).relu()
    low, high = layer.options[0], layer.options[-1]
    both = layer.compute(x, ImageBits((low,) * 8 + (high,) * 4))
    torch.testing.assert_close(both[:8], layer.compute(x[:8], low), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both[8:], layer.compute(x[8:], high), atol=1e-5, rtol=1e-5)


def test_after_training_it_disappears_in_steps_and_biases(
    network: QuantizedNetwork, images: torch.Tensor
) -> None:
    network.align(images)
    network.train()
    torch.manual_seed(0)
    for layer in network.layers:
        if layer.alignment is not None:
            for parameter in layer.alignment.parameters():
                parameter.data.add_(torch.randn_like(parameter) * 0.1)
    for width in (1, 2, 4, 2):
        network(images, network.uniform(width))
    network.eval()
    folded = network.folded()
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    found = [network(images, network.uniform(width)) for width in (1, 2, 4)]
    assert not torch.allclose(found[0], found[2], atol=1e-2)
    for width, logits in zip((1, 2, 4), found, strict=True):
        again = folded(images, folded.uniform(width))
        torch.testing.assert_close(again, logits, atol=1e-3, rtol=1e-3)


def test_all_images_count_alike_after_a_reset() -> None:
    alignment = alignment_of()
    alignment.momentum = None
    torch.manual_seed(0)
    batches = [torch.randn(count, 3, 4, 4) + count for count in (30, 10)]
    alignment.reset_running_stats()
    for batch in batches:
        alignment(batch, 1)
    wanted = torch.cat(batches).mean((0, 2, 3))
    torch.testing.assert_close(alignment.means[1], wanted)
    # what no image came to stays what it was
    torch.testing.assert_close(alignment.means[0], torch.tensor([-1.0, 0.0, 1.0]))


def test_a_single_value_is_computed_with_what_was_tracked() -> None:
    alignment = alignment_of()
    x = torch.randn(1, 3)
    torch.testing.assert_close(alignment(x, 0), x, atol=1e-5, rtol=1e-5)
