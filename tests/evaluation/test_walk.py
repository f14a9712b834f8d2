import copy
import warnings
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dqmq_env import BitAssignment, LayerBits, QuantizedNetwork
from dqmq_env.evaluation.walk import (
    FullPassWalker,
    GraphWalker,
    Pause,
    Walker,
    make_walker,
)

Quantize = Callable[..., QuantizedNetwork]
BITS = (2, 4, 8)


def walk(walker: Walker, x: Tensor, bits: Sequence[LayerBits]) -> Pause:
    pause = walker.start(x)
    for choice in bits:
        assert pause.logits is None
        assert pause.activation is not None
        pause = walker.advance(pause, choice)
    assert pause.activation is None
    return pause


def plain(network: QuantizedNetwork, x: Tensor, bits: Sequence[LayerBits]) -> Tensor:
    names = [spec.name for spec in network.specs]
    with torch.no_grad():
        return network(x.clone(), BitAssignment(dict(zip(names, bits, strict=True))))


def draw_bits(network: QuantizedNetwork, seed: int) -> list[LayerBits]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(BITS), (len(network.specs), 2), generator=generator)
    return [LayerBits(BITS[w], BITS[a]) for w, a in drawn.tolist()]


class Counting:
    """Counts the calls of a network's layers."""

    def __init__(self, network: QuantizedNetwork) -> None:
        self.calls = 0
        for layer in network.layers:
            compute = layer.compute

            def counted(*args: object, compute: Callable[..., Tensor] = compute) -> Tensor:
                self.calls += 1
                return compute(*args)

            layer.compute = counted  # type: ignore[method-assign, assignment]


# Networks that write into their activations, in every way that Python and torch offer.


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 4, 3, padding=1)
        self.three = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def end(self, x: Tensor) -> Tensor:
        return self.head(x.mean((2, 3)))


class InplaceModule(Block):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        second = self.two(first)
        self.relu(first)
        return self.end(self.three(second) + first)


class InplaceMethod(Block):
    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        second = self.two(first)
        first.relu_()
        return self.end(self.three(second) + first)


class InplaceFunction(Block):
    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        second = self.two(first)
        F.relu(first, inplace=True)
        return self.end(self.three(second) + first)


class InplacePositional(Block):
    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        second = self.two(first)
        F.relu(first, True)
        return self.end(self.three(second) + first)


class InplaceTorchFunction(Block):
    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        second = self.two(first)
        torch.relu_(first)
        return self.end(self.three(second) + first)


class InplaceAddition(Block):
    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        second = self.two(first)
        first += second
        return self.end(self.three(second) + first)


class InplaceAdditionSeenByAnAlias(Block):
    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        alias = first
        second = self.two(first)
        first += second
        return self.end(self.three(second) * alias)


class InplaceOnAView(Block):
    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        second = self.two(first)
        half = first[:, :2]
        half *= 2
        return self.end(self.three(second) + first)


class InplaceOnPartOfATuple(Block):
    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        low, high = torch.chunk(first, 2, 1)
        second = self.two(first)
        low.mul_(3)
        return self.end(self.three(second) + first + torch.cat([high, low], 1))


class ItemAssignment(Block):
    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        second = self.two(first)
        first[:, 0] = 0
        return self.end(self.three(second) + first)


class OutArgument(Block):
    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        second = self.two(first)
        torch.mul(first, 2, out=first)
        return self.end(self.three(second) + first)


class InplaceOnInput(Block):
    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        first = self.one(x)
        second = self.two(first)
        x *= 2
        return self.end(self.three(second) + first + x)


class InplaceResidual(Block):
    """As in torchvision's ResNet."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x), inplace=True)
        out = self.two(x)
        out += x
        x = F.relu(out, inplace=True)
        out = self.three(x)
        out += x
        return self.end(F.relu(out, inplace=True))


# Networks of other shapes.


class Branches(Block):
    """Several branches of different depth, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Conv2d(1, 2, 1)
        self.head = nn.Linear(14, 3)

    def forward(self, x: Tensor) -> Tensor:
        short = self.one(x)
        long = self.three(self.two(short).relu())
        parts = [short, long, self.late(x), F.max_pool2d(short, 3, 1, 1)]
        return self.head(torch.cat(parts, dim=1).mean((2, 3)))


class SharedLayer(Block):
    """One layer twice: its bits are decided at its first use."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(self.one(x)).relu()
        return self.end(self.two(x) + self.three(x))


class TwoNames(Block):
    def __init__(self) -> None:
        super().__init__()
        self.alias = self.two

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(self.one(x)).relu()
        return self.end(self.alias(x) + self.three(x))


class OptionalArgument(Block):
    def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
        return self.end(self.three(self.two(self.one(x))) * scale)


class ConstantsAndShapes(Block):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor([0.1, 0.2, 0.3, 0.4]).view(1, 4, 1, 1))
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x) * self.scale + self.shift
        x = self.three(self.two(x))
        flat = x.reshape(x.shape[0], 4, -1)
        return self.head(flat.mean(2))


TRACEABLE = [
    InplaceModule,
    InplaceMethod,
    InplaceFunction,
    InplacePositional,
    InplaceTorchFunction,
    InplaceAddition,
    InplaceAdditionSeenByAnAlias,
    InplaceOnAView,
    InplaceOnPartOfATuple,
    ItemAssignment,
    OutArgument,
    InplaceOnInput,
    InplaceResidual,
    Branches,
    SharedLayer,
    TwoNames,
    OptionalArgument,
    ConstantsAndShapes,
]


class DataDependent(Block):
    def forward(self, x: Tensor) -> Tensor:
        first = self.one(x)
        if first.sum() > 0:
            first = -first
        first += self.two(first)
        return self.end(self.three(first))


every_network_and_walker = pytest.mark.parametrize(
    ("kind", "full"),
    [(kind, False) for kind in TRACEABLE] + [(kind, True) for kind in (*TRACEABLE, DataDependent)],
    ids=lambda value: value.__name__ if isinstance(value, type) else ("graph", "full")[value],
)


def make(quantize: Quantize, kind: type[nn.Module]) -> QuantizedNetwork:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    return quantize(kind().eval(), torch.randn(8, 1, 6, 6, generator=generator), BITS)


@pytest.fixture(scope="module")
def resnet(quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor) -> QuantizedNetwork:
    return quantize(tiny_network, tiny_input, BITS)


@pytest.mark.parametrize("kind", TRACEABLE)
def test_networks_are_walked_by_their_graph(quantize: Quantize, kind: type[nn.Module]) -> None:
    assert isinstance(make_walker(make(quantize, kind)), GraphWalker)


@settings(max_examples=15)
@given(seed=st.integers(0, 9999), batch=st.integers(1, 5))
def test_walking_equals_the_plain_pass(
    resnet: QuantizedNetwork, tiny_input: Tensor, seed: int, batch: int
) -> None:
    x, bits = tiny_input[:batch], draw_bits(resnet, seed)
    expected = plain(resnet, x, bits)
    for walker in (make_walker(resnet), FullPassWalker(resnet)):
        logits = walk(walker, x, bits).logits
        assert logits is not None
        assert torch.equal(logits, expected)


@every_network_and_walker
def test_walking_equals_the_plain_pass_for_all_networks(
    quantize: Quantize, kind: type[nn.Module], full: bool
) -> None:
    network = make(quantize, kind)
    walker = FullPassWalker(network) if full else make_walker(network)
    x = torch.randn(3, 1, 6, 6)
    for seed in range(3):
        bits = draw_bits(network, seed)
        before = x.clone()
        logits = walk(walker, x, bits).logits
        assert logits is not None
        assert torch.equal(logits, plain(network, before, bits))
        assert torch.equal(x, before)


@every_network_and_walker
def test_a_pause_can_be_continued_many_times(
    quantize: Quantize, kind: type[nn.Module], full: bool
) -> None:
    """Walk the tree of all assignments depth first, from pauses that are kept."""
    network = make(quantize, kind)
    walker = FullPassWalker(network) if full else make_walker(network)
    x = torch.randn(2, 1, 6, 6)
    choices = [LayerBits(bits, bits) for bits in (2, 8)]

    def explore(pause: Pause, bits: list[LayerBits]) -> None:
        if pause.logits is not None:
            assert torch.equal(pause.logits, plain(network, x, bits)), bits
            return
        assert pause.activation is not None
        seen = pause.activation.clone()
        for choice in choices:
            explore(walker.advance(pause, choice), [*bits, choice])
            assert torch.equal(pause.activation, seen)

    explore(walker.start(x), [])


def test_both_walkers_see_the_same_activations(
    resnet: QuantizedNetwork, tiny_input: Tensor
) -> None:
    x, bits = tiny_input[:4], draw_bits(resnet, 7)
    graph, full = make_walker(resnet), FullPassWalker(resnet)
    pauses = [graph.start(x), full.start(x)]
    for layer, choice in zip(resnet.layers, bits, strict=True):
        assert pauses[0].activation is not None
        assert pauses[1].activation is not None
        assert torch.equal(pauses[0].activation, pauses[1].activation)
        assert pauses[0].activation.shape[1:] == layer.spec.input_shape
        pauses = [graph.advance(pauses[0], choice), full.advance(pauses[1], choice)]
    assert pauses[0].logits is not None
    assert pauses[1].logits is not None
    assert torch.equal(pauses[0].logits, pauses[1].logits)


def test_the_graph_computes_each_layer_once(
    quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor
) -> None:
    network = quantize(tiny_network, tiny_input, BITS)
    counting = Counting(network)
    walker = make_walker(network)
    bits = draw_bits(network, 0)
    pause = walker.start(tiny_input[:2])
    for choice in bits[:-1]:
        pause = walker.advance(pause, choice)
    for width in BITS:
        walker.advance(pause, LayerBits(width, width))
    assert counting.calls == len(bits) - 1 + len(BITS)


def test_a_folded_network_can_be_walked(resnet: QuantizedNetwork, tiny_input: Tensor) -> None:
    folded = resnet.folded()
    bits = draw_bits(folded, 1)
    logits = walk(make_walker(folded), tiny_input[:3], bits).logits
    assert logits is not None
    assert torch.equal(logits, plain(folded, tiny_input[:3], bits))


def test_walking_tracks_no_gradients(resnet: QuantizedNetwork, tiny_input: Tensor) -> None:
    for walker in (make_walker(resnet), FullPassWalker(resnet)):
        pause = walker.advance(walker.start(tiny_input[:1]), LayerBits(4, 4))
        assert pause.activation is not None
        assert not pause.activation.requires_grad


def test_what_cannot_be_traced_falls_back_with_one_warning(quantize: Quantize) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = make(quantize, DataDependent)
        walker = make_walker(network)
        walk(walker, torch.randn(2, 1, 6, 6), draw_bits(network, 0))
    assert isinstance(walker, FullPassWalker)
    (warning,) = caught
    assert "DataDependent cannot be traced" in str(warning.message)
    assert "full forward passes" in str(warning.message)


def test_a_copy_of_the_network_is_walked_by_itself(
    resnet: QuantizedNetwork, tiny_input: Tensor
) -> None:
    other = copy.deepcopy(resnet)
    walker = make_walker(other)
    bits = draw_bits(resnet, 2)
    before = walk(walker, tiny_input[:2], bits).logits
    with torch.no_grad():
        other.layers[-1].inner.bias.add_(1)
    after = walk(walker, tiny_input[:2], bits).logits
    assert before is not None
    assert after is not None
    assert torch.allclose(after, before + 1, atol=1e-5)
    assert torch.equal(plain(resnet, tiny_input[:2], bits), before)
