from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dqmq_env import BitAssignment, LayerBits, QuantizedNetwork
from dqmq_env.errors import AssignmentError
from dqmq_env.evaluation.batch_pass import BatchPass, BatchWalker, images_in_a_part
from dqmq_env.evaluation.statistics import activation_statistics, batch_statistics
from dqmq_env.evaluation.walk import FullPassWalker, make_walker
from dqmq_env.quantization.choice import ImageBits

Quantize = Callable[..., QuantizedNetwork]
BITS = (2, 4, 8)
pairs = st.builds(LayerBits, st.sampled_from(BITS), st.sampled_from(BITS))


@pytest.fixture(scope="module")
def resnet(quantize: Quantize, tiny_network: nn.Module, tiny_input: Tensor) -> QuantizedNetwork:
    return quantize(tiny_network, tiny_input, BITS)


def plain(network: QuantizedNetwork, x: Tensor, bits: Sequence[LayerBits]) -> Tensor:
    names = [spec.name for spec in network.specs]
    with torch.no_grad():
        return network(x, BitAssignment(dict(zip(names, bits, strict=True))))


def walk(walker: BatchWalker, x: Tensor, bits: Sequence[LayerBits]) -> BatchPass:
    reached = walker.start(x)
    for pair in bits:
        reached = walker.advance(reached, pair)
    return reached


@settings(max_examples=15)
@given(data=st.data(), part=st.integers(2, 40))
def test_parts_change_no_result(
    resnet: QuantizedNetwork, tiny_input: Tensor, data: st.DataObject, part: int
) -> None:
    bits = data.draw(st.lists(pairs, min_size=8, max_size=8))
    walker = BatchWalker(make_walker(resnet), part)
    begun = walker.start(tiny_input)
    assert sum(begun.sizes) == len(tiny_input)
    assert max(begun.sizes) <= part
    assert max(begun.sizes) - min(begun.sizes) <= 1
    assert torch.equal(torch.cat(begun.activations), tiny_input)
    ended = walk(walker, tiny_input, bits)
    assert ended.activations == ()
    assert torch.equal(ended.logits, plain(resnet, tiny_input, bits))


@settings(max_examples=10)
@given(
    continuations=st.lists(st.tuples(pairs, pairs, pairs), min_size=1, max_size=12),
    first=pairs,
    full=st.booleans(),
)
def test_descending_equals_walking_each_way_and_shares_beginnings(
    resnet: QuantizedNetwork,
    tiny_input: Tensor,
    continuations: list[tuple[LayerBits, ...]],
    first: LayerBits,
    full: bool,
) -> None:
    walker = BatchWalker(FullPassWalker(resnet) if full else make_walker(resnet), 20)
    start = walk(walker, tiny_input, [first])
    calls = []
    advance = walker.walker.advance

    def counted(*args: object) -> object:
        calls.append(args)
        return advance(*args)  # type: ignore[arg-type]

    walker.walker.advance = counted  # type: ignore[method-assign, assignment]
    ends = walker.descend(start, continuations)
    assert set(ends) == set(continuations)
    prefixes = {bits[:length] for bits in continuations for length in (1, 2, 3)}
    assert len(calls) == 2 * len(prefixes)  # 32 images in two parts
    for bits, end in ends.items():
        alone = walk(walker, tiny_input, [first, *bits])
        assert all(map(torch.equal, end.activations, alone.activations))


@settings(max_examples=15)
@given(data=st.data(), part=st.integers(2, 40))
def test_each_image_at_bits_of_its_own_equals_the_plain_pass_of_these_bits(
    resnet: QuantizedNetwork, tiny_input: Tensor, data: st.DataObject, part: int
) -> None:
    count = data.draw(st.integers(2, len(tiny_input)))
    x = tiny_input[:count]
    columns = [
        tuple(data.draw(st.lists(pairs, min_size=count, max_size=count))) for _ in resnet.specs
    ]
    walker = BatchWalker(make_walker(resnet), part)
    reached = walker.start(x)
    for column in columns:
        reached = walker.advance_each(reached, ImageBits(column))
    for number in {0, count // 2, count - 1}:
        alone = plain(resnet, x, [column[number] for column in columns])[number]
        assert torch.equal(reached.logits[number], alone)


def test_bits_for_another_number_of_images_are_refused(
    resnet: QuantizedNetwork, tiny_input: Tensor
) -> None:
    with pytest.raises(AssignmentError, match="got bits for 2 images, the batch has 32"):
        resnet.layers[0].compute(tiny_input, ImageBits((LayerBits(4, 4), LayerBits(8, 8))))


def test_a_part_has_four_mebibytes_where_the_network_is_widest(resnet: QuantizedNetwork) -> None:
    widest = max(torch.Size(spec.output_shape).numel() for spec in resnet.specs)
    assert images_in_a_part(resnet.specs) == 2**20 // widest


@settings(max_examples=30)
@given(seed=st.integers(0, 999), cuts=st.lists(st.integers(1, 11), max_size=3))
def test_statistics_of_parts_are_those_of_the_whole(seed: int, cuts: list[int]) -> None:
    x = torch.randn(12, 3, 6, 6, generator=torch.Generator().manual_seed(seed)).relu()
    parts = x.tensor_split(sorted(set(cuts)))
    reach = torch.tensor(2.0)
    whole = activation_statistics(x, 1, reach)[0]
    assert torch.allclose(batch_statistics(parts, 1, reach), whole, rtol=1e-5)
