import pytest
import torch

from dqmq_env.errors import SettingError
from dqmq_env.zoo.resnet import BasicBlock, CifarResNet


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (32, 464_154), (44, 658_586)])
def test_sizes_of_the_paper(depth: int, parameters: int) -> None:
    """0.27 M, 0.46 M, 0.66 M (He et al. 2016, table 6)."""
    network = CifarResNet(depth, in_channels=3)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("side", [28, 32])
def test_logits(side: int) -> None:
    network = CifarResNet(8, width=4, in_channels=3, classes=7)
    assert network(torch.zeros(2, 3, side, side)).shape == (2, 7)


def test_the_shortcut_has_no_parameters_and_pads_channels() -> None:
    block = BasicBlock(2, 4, stride=2).eval()
    assert len(list(block.parameters())) == 6
    with torch.no_grad():
        block.conv2.weight.zero_()
    x = torch.rand(1, 2, 4, 4)
    out = block(x).detach()
    assert out.shape == (1, 4, 2, 2)
    assert torch.equal(out[:, 1:3], x[:, :, ::2, ::2])
    assert float(out[:, [0, 3]].abs().sum()) == 0


@pytest.mark.parametrize("depth", [0, 2, 7, 18, -4])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(SettingError, match=f"depth: got {depth}"):
        CifarResNet(depth)
