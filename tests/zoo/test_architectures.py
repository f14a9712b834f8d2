import pytest
import torch
from torch import nn

from dqmq_env.errors import SettingError
from dqmq_env.quantization.tracing import trace_layers
from dqmq_env.zoo.architectures import architecture_names, build


@pytest.mark.parametrize("name", architecture_names())
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3)])
def test_every_network_takes_grey_and_colour(name: str, side: int, channels: int) -> None:
    network = build(name, in_channels=channels, classes=7).eval()
    logits = network(torch.zeros(2, channels, side, side))
    assert logits.shape == (2, 7)
    assert torch.isfinite(logits).all()


def test_the_mobilenet_has_depthwise_layers_and_shortcuts() -> None:
    network = build("mobilenetv2", in_channels=1, classes=10)
    kinds = [layer.kind for layer in trace_layers(network, torch.zeros(1, 1, 28, 28))]
    assert kinds.count("depthwise") == 8
    assert sum(getattr(module, "shortcut", False) for module in network.modules()) == 5
    assert any(isinstance(module, nn.ReLU6) for module in network.modules())


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SettingError, match="resnet20"):
        build("vgg")
