import copy
import warnings

import pytest
import torch
import torchvision
from torch import Tensor, nn

from dqmq_env.errors import NetworkError
from dqmq_env.quantization.tracing import trace_layers
from dqmq_env.zoo.resnet import CifarResNet

IMAGENET = (1, 3, 224, 224)


@pytest.mark.parametrize(
    ("network", "shape", "layers", "weights", "macs"),
    [
        ("resnet18", IMAGENET, 21, 11_678_912, 1_814_073_344),
        ("resnet50", IMAGENET, 54, 25_502_912, 4_089_184_256),
        ("mobilenet_v2", IMAGENET, 53, 3_469_760, 300_774_272),
        ("resnet20", (1, 3, 32, 32), 20, 268_336, 40_551_040),
    ],
)
def test_published_counts(
    network: str, shape: tuple[int, ...], layers: int, weights: int, macs: int
) -> None:
    if network == "resnet20":
        model: nn.Module = CifarResNet(20, in_channels=3)
    else:
        model = torchvision.models.get_model(network, weights=None)
    specs = trace_layers(model, torch.zeros(shape))
    assert len(specs) == layers
    assert sum(spec.weights for spec in specs) == weights
    assert sum(spec.macs for spec in specs) == macs


def only(network: nn.Module, *shape: int, name: str = "0") -> dict[str, object]:
    (spec,) = trace_layers(network, torch.zeros(shape))
    assert spec.name == name
    return vars(spec)


def test_plain_convolution() -> None:
    assert only(nn.Sequential(nn.Conv2d(3, 8, 5, stride=2)), 1, 3, 13, 11) == {
        "name": "0",
        "kind": "conv",
        "in_channels": 3,
        "out_channels": 8,
        "kernel": 5,
        "stride": 2,
        "groups": 1,
        "weights": 8 * 3 * 25,
        "macs": 8 * 3 * 25 * 5 * 4,
        "input_shape": (3, 13, 11),
        "output_shape": (8, 5, 4),
    }


def test_grouped_convolution() -> None:
    spec = only(nn.Sequential(nn.Conv2d(6, 9, 3, groups=3, padding=1)), 2, 6, 8, 8)
    assert (spec["kind"], spec["groups"]) == ("conv", 3)
    assert spec["weights"] == 9 * 2 * 9
    assert spec["macs"] == 9 * 2 * 9 * 64


def test_depthwise_convolution() -> None:
    spec = only(nn.Sequential(nn.Conv2d(6, 12, 3, groups=6, padding=1)), 1, 6, 8, 8)
    assert spec["kind"] == "depthwise"
    assert spec["weights"] == 12 * 9
    assert spec["macs"] == 12 * 9 * 64
    # one channel alone is an ordinary convolution
    assert only(nn.Sequential(nn.Conv2d(1, 4, 3)), 1, 1, 8, 8)["kind"] == "conv"


def test_dilated_convolution() -> None:
    spec = only(nn.Sequential(nn.Conv2d(2, 4, 3, dilation=3)), 1, 2, 10, 10)
    assert spec["output_shape"] == (4, 4, 4)
    assert spec["macs"] == 4 * 2 * 9 * 16


def test_linear_layer() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    spec = only(network, 3, 3, 2, 2, name="1")
    assert (spec["kind"], spec["in_channels"], spec["out_channels"]) == ("linear", 12, 5)
    assert (spec["kernel"], spec["stride"], spec["groups"]) == (1, 1, 1)
    assert spec["weights"] == spec["macs"] == 60
    assert (spec["input_shape"], spec["output_shape"]) == ((12,), (5,))


def test_linear_layer_over_tokens() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(4, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.mix(x.flatten(2).transpose(1, 2))

    spec = only(Tokens(), 2, 4, 3, 3, name="mix")
    assert spec["macs"] == 9 * 24


class Shared(nn.Module):
    """Uses one convolution twice, at two resolutions; declares layers against their order."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(4, 3)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        x = self.conv(x[..., ::2, ::2])
        return self.head(x.mean((2, 3)))


def test_a_shared_layer_counts_once_in_weights_and_twice_in_macs() -> None:
    with pytest.warns(UserWarning, match="stay in float: unused$"):
        conv, head = trace_layers(Shared(), torch.zeros(1, 4, 8, 8))
    assert (conv.name, head.name) == ("conv", "head")
    assert conv.weights == 4 * 4 * 9
    assert conv.macs == 4 * 4 * 9 * (64 + 16)
    assert (conv.input_shape, conv.output_shape) == ((4, 8, 8), (4, 8, 8))


def test_a_layer_with_two_names_is_one_layer() -> None:
    conv = nn.Conv2d(4, 4, 1)
    (spec,) = trace_layers(nn.Sequential(conv, nn.ReLU(), conv), torch.zeros(1, 4, 2, 2))
    assert spec.name == "0"
    assert (spec.weights, spec.macs) == (16, 2 * 16 * 4)


def test_layers_come_in_the_order_of_the_forward_pass() -> None:
    network = CifarResNet(8, width=2)
    names = [spec.name for spec in trace_layers(network, torch.zeros(1, 1, 12, 12))]
    assert names[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert names[-1] == "fc"


def test_excluded_layers_are_left_out() -> None:
    network = CifarResNet(8, width=2)
    specs = trace_layers(network, torch.zeros(1, 1, 12, 12), exclude=("conv1", "fc"))
    assert {"conv1", "fc"}.isdisjoint(spec.name for spec in specs)
    assert len(specs) == 6
    with pytest.raises(NetworkError, match=r"exclude: no layers \['nothing'\]"):
        trace_layers(network, torch.zeros(1, 1, 12, 12), exclude=("nothing",))


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(NetworkError, match="no Conv2d or Linear"):
        trace_layers(nn.Sequential(nn.Flatten(), nn.ReLU()), torch.zeros(1, 1, 4, 4))


def test_a_bare_layer_is_refused() -> None:
    with pytest.raises(NetworkError, match=r"nn\.Sequential"):
        trace_layers(nn.Linear(4, 2), torch.zeros(1, 4))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        attended: torch.Tensor = self.attention(tokens, tokens, tokens)[0]
        return attended.mean(1)


def test_attention_stays_in_float_and_is_named() -> None:
    with pytest.warns(UserWarning, match="stay in float: attention"):
        specs = trace_layers(Attending().eval(), torch.zeros(1, 1, 5, 5))
    assert [spec.name for spec in specs] == ["stem"]


class Borrowing(Attending):
    """Multiplies with a layer's weights by itself, as torchvision's Swin does."""

    def __init__(self) -> None:
        super().__init__()
        self.borrowed = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) @ self.borrowed.weight


def test_layers_that_are_not_called_are_named_once() -> None:
    with pytest.warns(UserWarning, match="stay in float: attention, borrowed$"):
        specs = trace_layers(Borrowing().eval(), torch.zeros(1, 1, 5, 5))
    assert [spec.name for spec in specs] == ["stem"]


def test_layers_of_other_kinds_are_named_in_a_warning() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(2, 1, 3))
    with pytest.warns(UserWarning, match="stay in float: 1"):
        specs = trace_layers(network, torch.zeros(1, 1, 8, 8))
    assert [spec.name for spec in specs] == ["0"]


def test_the_network_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.BatchNorm2d(2))
    network.train()
    network[1].eval()
    before = copy.deepcopy(network.state_dict())
    trace_layers(network, torch.randn(2, 1, 8, 8))
    assert [module.training for module in network] == [True, False, True, True]
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not network[0]._forward_hooks


def test_it_does_not_warn_of_what_it_can_quantise() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace_layers(CifarResNet(8, width=2), torch.zeros(1, 1, 12, 12))
