"""Fixtures that tests of several packages share.

Those of session scope are never changed by a test; the factories give a fresh object on each call.
"""

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from dqmq_env.data import ImageData, load_fashion_mnist
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality import Mixture
from dqmq_env.quantization.candidates import candidate_bits
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.tracing import trace_layers
from dqmq_env.zoo.resnet import CifarResNet

# The machine's cores are shared; one thread also makes sums come out the same on every run.
torch.set_num_threads(1)
# Nor does a busy machine say anything about the code, and a commit that passes passes again: `make
# test` tries the same examples on every run, `make fuzz` others each time.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None)
settings.load_profile("same")

Quantize = Callable[..., QuantizedNetwork]


def with_statistics(network: nn.Module, x: Tensor) -> nn.Module:
    """The network in eval mode, its batch norms having seen ``x``, as after training."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    generator = torch.Generator().manual_seed(1)
    for norm in norms:
        norm.momentum = None
        with torch.no_grad():
            norm.weight.uniform_(0.5, 1.5, generator=generator)
            norm.bias.uniform_(-0.5, 0.5, generator=generator)
    with torch.no_grad():
        network.train()(x)
    return network.eval()


@pytest.fixture(scope="session")
def tiny_data() -> ImageData:
    """Fashion-MNIST with 200 train, 50 search and 40 test images."""
    data = load_fashion_mnist()
    return ImageData(
        "tiny",
        data.train.take(200),
        data.search.take(50),
        data.test.take(40),
        data.classes,
        data.mean,
        data.std,
    )


@pytest.fixture(scope="session")
def tiny_input(tiny_data: ImageData) -> Tensor:
    """Normalised train images, float32 (32, 1, 28, 28)."""
    images = tiny_data.train.images[:32].float() / 255
    return (images - tiny_data.mean[0]) / tiny_data.std[0]


@pytest.fixture(scope="session")
def tiny_network(tiny_input: Tensor) -> nn.Module:
    """A ResNet-8 of width 4 with random weights and batch norms that fit them, in eval mode."""
    torch.manual_seed(0)
    return with_statistics(CifarResNet(8, width=4), tiny_input)


@pytest.fixture(scope="session")
def make_tiny_problem(
    tiny_network: nn.Module, tiny_data: ImageData
) -> Callable[..., NetworkProblem]:
    """Makes a problem of 8 layers, 6 of them decided, and two batches of 20 images."""

    def make(bits: Sequence[int] = (2, 4, 8), **changes: object) -> NetworkProblem:
        settings: dict[str, object] = {
            "conditions": Mixture({"clean": 1, "gaussian_noise/3": 1, "jpeg/5": 1}),
            "batch_size": 20,
            "calibration_images": 40,
        }
        network = copy.deepcopy(tiny_network)
        return NetworkProblem.over(network, tiny_data, bits=bits, **(settings | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def tiny_problem(make_tiny_problem: Callable[..., NetworkProblem]) -> NetworkProblem:
    """See :func:`make_tiny_problem`; candidates 2, 4 and 8, first and last layer at 8."""
    return make_tiny_problem()


@pytest.fixture(scope="session")
def quantize() -> Quantize:
    """Makes a calibrated :class:`QuantizedNetwork` of any network."""

    def make(
        network: nn.Module,
        x: Tensor,
        bits: Sequence[int] = (2, 4, 8),
        first: int | None = None,
        last: int | None = None,
        per_channel: bool = True,
    ) -> QuantizedNetwork:
        specs = trace_layers(network, x[:1])
        candidates = candidate_bits(specs, bits, first, last)
        quantized = QuantizedNetwork(network, specs, candidates, per_channel)
        quantized.calibrate(x)
        return quantized

    return make
