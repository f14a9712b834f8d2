import copy

import pytest
import torch
import torchvision
from torch import Tensor, nn

from dqmq_env.quantization.folding import fold_batch_norm
from dqmq_env.zoo.resnet import CifarResNet


def fitted(network: nn.Module, x: Tensor, seed: int = 0) -> nn.Module:
    """Random affine parameters, some negative, and statistics of ``x``; in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                if module.affine:
                    module.weight.uniform_(-0.5, 1.5, generator=generator)
                    module.bias.uniform_(-0.5, 0.5, generator=generator)
        network.train()(x)
    return network.eval()


@pytest.mark.parametrize("name", ["cifar_resnet", "mobilenet_v2", "resnet18"])
def test_folded_equals_unfolded(name: str) -> None:
    torch.manual_seed(0)
    if name == "cifar_resnet":
        network, x = CifarResNet(20, width=4), torch.randn(4, 1, 28, 28)
    else:
        network = torchvision.models.get_model(name, weights=None)
        x = torch.randn(4, 3, 64, 64)
    fitted(network, x).double()
    folded = fold_batch_norm(network)
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        expected = network(x.double())
        assert torch.allclose(folded(x.double()), expected, rtol=1e-9, atol=1e-9)
        single = fold_batch_norm(network.float())(x).double()
    assert float((single - expected).norm() / expected.norm()) < 1e-4


def check(network: nn.Module, x: Tensor, norms_left: int) -> None:
    fitted(network, x)
    before = copy.deepcopy(network.state_dict())
    folded = fold_batch_norm(network)
    with torch.no_grad():
        assert torch.allclose(folded(x), network(x), rtol=1e-4, atol=1e-4)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules()) == norms_left
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_convolution_with_bias_and_norm_without_affine() -> None:
    check(
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, affine=False)),
        torch.randn(4, 1, 6, 6),
        0,
    )


def test_a_train_mode_network_is_folded_as_in_eval_mode() -> None:
    network = fitted(nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)), torch.randn(4, 1, 6, 6))
    x = torch.randn(2, 1, 6, 6)
    expected = network(x)
    folded = fold_batch_norm(network.train())
    assert network.training
    assert not folded.training
    assert torch.allclose(folded(x), expected, atol=1e-5)


class Branches(nn.Module):
    """A convolution whose raw output is used beside its batch norm's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return torch.cat([x, self.norm(x)], 1)


class SharedConvolution(nn.Module):
    """One convolution used twice, with a batch norm behind its second use."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.conv(x)))


class SharedNorm(nn.Module):
    """One batch norm behind two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.two(self.norm(self.one(x))))


class NormWithTwoNames(nn.Module):
    """A batch norm that is called by the second of its names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        self.alias = self.norm

    def forward(self, x: Tensor) -> Tensor:
        return self.alias(self.conv(x))


class FunctionBetween(nn.Module):
    """A ReLU between the convolution and its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x).relu())


@pytest.mark.parametrize(
    ("network", "channels", "norms_left"),
    [
        (Branches(), 1, 1),
        (SharedConvolution(), 2, 1),
        (SharedNorm(), 1, 1),
        (NormWithTwoNames(), 1, 0),
        (FunctionBetween(), 1, 1),
        (nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3)), 1, 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_only_what_can_be_folded_is(network: nn.Module, channels: int, norms_left: int) -> None:
    check(network, torch.randn(4, channels, 8, 8), norms_left)


def test_norm_without_running_statistics_stays() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    folded = fold_batch_norm(network)
    x = torch.randn(4, 1, 8, 8)
    assert isinstance(folded[1], nn.BatchNorm2d)
    assert torch.equal(folded(x), network(x))


class DataDependent(nn.Module):
    """Cannot be traced: what it computes depends on the values of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0:
            x = -x
        return self.norm(self.conv(x))


def test_what_cannot_be_traced_is_copied_as_it_is() -> None:
    network = fitted(DataDependent(), torch.randn(4, 1, 8, 8))
    folded = fold_batch_norm(network)
    x = torch.randn(4, 1, 8, 8)
    assert folded is not network
    assert torch.equal(folded(x), network(x))
