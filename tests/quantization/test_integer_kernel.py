import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dqmq_env import LayerBits, QuantizedNetwork
from dqmq_env.errors import AssignmentError
from dqmq_env.quantization.candidates import candidate_bits
from dqmq_env.quantization.integer_kernel import integers_are_fast, use_integer_kernels
from dqmq_env.quantization.post_training import DEFAULT_POST_TRAINING
from dqmq_env.quantization.tracing import trace_layers

Quantize = Callable[..., QuantizedNetwork]
BITS = (1, 2, 3, 5, 8)

pytestmark = pytest.mark.skipif(
    not integers_are_fast(), reason="needs a processor with VNNI instructions"
)


class Layers(nn.Module):
    """Convolutions of several kinds side by side, and what is none."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(6, 8, 3, padding=1)
        self.strided = nn.Conv2d(6, 5, (3, 2), stride=(2, 1), padding=(0, 1), bias=False)
        self.grouped = nn.Conv2d(6, 4, 3, groups=2, dilation=2)
        self.depthwise = nn.Conv2d(6, 12, 3, groups=6)
        self.pointwise = nn.Conv2d(6, 3, 1)
        self.same = nn.Conv2d(6, 3, 3, padding="same")
        self.reflecting = nn.Conv2d(6, 3, 3, padding=1, padding_mode="reflect")
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [part(x).mean((1, 2, 3)) for part in self.children() if part is not self.head]
        return self.head(x.mean((2, 3))) + torch.stack(found).sum(0)[:, None]


def network(signed: bool, rounded: bool = False) -> tuple[QuantizedNetwork, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(16, 6, 9, 10).contiguous(memory_format=torch.channels_last)
    if not signed:
        x = x.relu()
    float_network = Layers().eval()
    specs = trace_layers(float_network, x[:1])
    quantized = QuantizedNetwork(float_network, specs, candidate_bits(specs, BITS, None, None))
    if rounded:
        DEFAULT_POST_TRAINING(quantized, x)
    else:
        quantized.calibrate(x)
    return quantized, x


@settings(max_examples=40)
@given(
    weight=st.sampled_from(BITS),
    activation=st.sampled_from(BITS),
    signed=st.booleans(),
    rounded=st.booleans(),
)
@torch.no_grad()
def test_integers_give_what_fake_quantisation_gives(
    weight: int, activation: int, signed: bool, rounded: bool
) -> None:
    plain, x = network(signed, rounded)
    fast = copy.deepcopy(plain)
    use_integer_kernels(fast)
    served = {layer.spec.name for layer in fast.layers if layer.kernel is not None}
    assert served == {"plain", "strided", "grouped", "depthwise", "pointwise"}
    bits = LayerBits(weight, activation)
    for one, other in zip(plain.layers, fast.layers, strict=True):
        values = x.mean((2, 3)) if one.spec.name == "head" else x
        expected, found = one.compute(values, bits), other.compute(values, bits)
        scale = float(expected.abs().max())
        assert torch.allclose(found, expected, rtol=0, atol=1e-5 * scale)
        if other.kernel is not None and weight != 1:
            # sums of integers are exact, so that parts of a batch come out alike
            assert torch.equal(torch.cat([other.compute(p, bits) for p in x.split(3)]), found)


def test_where_they_are_not_used() -> None:
    quantized, x = network(signed=False)
    use_integer_kernels(quantized)
    layer = quantized.layers[0]
    assert layer.kernel is not None
    assert not layer.kernel.takes(LayerBits(1, 8))
    assert not layer.kernel.takes(LayerBits(32, 8))
    assert not layer.kernel.takes(LayerBits(8, 32))
    assert layer.compute(x, LayerBits(8, 8)).requires_grad  # gradients take the other way
    with torch.no_grad(), pytest.raises(AssignmentError, match="got 4 bits, its candidates are"):
        layer.compute(x, LayerBits(4, 8))


@torch.no_grad()
def test_changed_weights_and_steps_are_seen() -> None:
    quantized, x = network(signed=True)
    use_integer_kernels(quantized)
    bits = LayerBits(3, 5)
    for change in ("weight_log_step", "activation_log_step", "inner.weight", "inner.bias"):
        layer = quantized.layers[0]
        before = layer.compute(x, bits)
        layer.get_parameter(change).mul_(0.5)
        after = layer.compute(x, bits)
        layer.kernel, kernel = None, layer.kernel
        expected = layer.compute(x, bits)
        layer.kernel = kernel
        assert not torch.equal(before, after)
        assert torch.allclose(after, expected, atol=1e-5 * float(expected.abs().max()))


@torch.no_grad()
def test_copies_compute_by_themselves() -> None:
    quantized, x = network(signed=False)
    use_integer_kernels(quantized)
    bits = LayerBits(3, 5)
    expected = quantized.layers[0].compute(x, bits)
    copies = [copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))]
    quantized.layers[0].weight_log_step.add_(1)
    for other in copies:
        assert torch.equal(other.layers[0].compute(x, bits), expected)
