"""Scale and offset of channels, with the gradient of the scale taken from the result."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dqmq_env.quantization.scaling import scale_and_shift

SHAPES = ((4, 3, 5, 5), (4, 3), (4, 3, 2))


def drawn(shape: tuple[int, ...], rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """An input, scales, offsets, and a gradient of the result, of double precision."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*own: int) -> Tensor:
        return torch.randn(own, generator=generator, dtype=torch.float64)

    x, scale, offset = normal(*shape), normal(rows, shape[1]), normal(rows, shape[1])
    return x, scale, offset, normal(*shape)


@settings(max_examples=40)
@given(
    shape=st.sampled_from(SHAPES),
    rows=st.sampled_from([1, 4]),
    seed=st.integers(0, 999),
    keep_input=st.booleans(),
    least=st.sampled_from([None, 0.0, 1e-9, 2**-6]),
    channels_last=st.booleans(),
)
def test_gradients_are_those_of_a_product_and_a_sum(
    shape: tuple[int, ...],
    rows: int,
    seed: int,
    keep_input: bool,
    least: float | None,
    channels_last: bool,
) -> None:
    x, scale, offset, upstream = drawn(shape, rows, seed)
    if least is not None:
        scale[0, 0] = least
    if channels_last and len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    sides = (..., *(None,) * (len(shape) - 2))
    given_ = [own.requires_grad_() for own in (x, scale, offset)]
    expected = x * scale[sides] + offset[sides]
    result = scale_and_shift(x, scale, offset, keep_input)
    assert result.stride() == x.stride()
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(
        torch.autograd.grad(result, given_, upstream),
        torch.autograd.grad(expected, given_, upstream),
    )


@pytest.mark.parametrize("rows", [1, 4])
def test_without_gradients_the_input_becomes_the_result(rows: int) -> None:
    x, scale, offset, _ = drawn(SHAPES[0], rows, 0)
    expected = x * scale[..., None, None] + offset[..., None, None]
    with torch.no_grad():
        result = scale_and_shift(x, scale, offset, keep_input=False)
    assert result.data_ptr() == x.data_ptr()
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("keep_input", [False, True])
def test_the_result_may_be_written_into_where_the_input_is_kept(keep_input: bool) -> None:
    x, scale, offset, upstream = drawn(SHAPES[0], 4, 0)
    scale = (scale.abs() + 1).requires_grad_()
    result = scale_and_shift(x, scale, offset, keep_input)
    result.relu_()
    if keep_input:
        apart = (x * scale[..., None, None] + offset[..., None, None]).relu()
        torch.testing.assert_close(
            torch.autograd.grad(result, scale, upstream),
            torch.autograd.grad(apart, scale, upstream),
        )
    else:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            result.backward(upstream)
