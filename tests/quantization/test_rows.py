"""Rows of a batch in another order, of which training keeps nothing but the batch."""

import pytest
import torch
from torch import Tensor

from dqmq_env.quantization.rows import in_order, reorder, take_rows

ORDER = torch.tensor([4, 1, 5, 0, 3, 2])


def activation(channels_last: bool) -> Tensor:
    x = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


@pytest.mark.parametrize("channels_last", [False, True])
def test_rows_keep_their_layout(channels_last: bool) -> None:
    x = activation(channels_last)
    taken = take_rows(x, ORDER[:4])
    assert torch.equal(taken, x[ORDER[:4]])
    assert taken.stride() == x.stride()
    assert torch.equal(reorder(reorder(x, ORDER), ORDER.argsort()), x)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("sizes", [[6], [1, 5], [2, 1, 3]])
def test_gradients_pass_through_rows_that_are_not_kept(
    channels_last: bool, sizes: list[int]
) -> None:
    x = activation(channels_last).requires_grad_()
    with in_order(x, ORDER) as rows:
        parts = [part * part.exp() for part in rows.split(sizes)]
    result = reorder(torch.cat(parts), ORDER.argsort())
    expected = x * x.exp()
    assert torch.equal(result, expected)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        torch.autograd.grad(result, x, upstream), torch.autograd.grad(expected, x, upstream)
    )


def test_what_is_saved_is_the_batch_itself() -> None:
    x = activation(channels_last=True).requires_grad_()
    y = x + 0
    with in_order(y, ORDER) as rows:
        result = rows.sin()
    with torch.no_grad():
        rows.zero_()  # nothing looks at it any more
    torch.testing.assert_close(torch.autograd.grad(result.sum(), x)[0], x.cos())


def test_a_batch_that_was_written_into_is_noticed() -> None:
    x = activation(channels_last=False).requires_grad_()
    y = x + 0
    with in_order(y, ORDER) as rows:
        result = rows.sin()
    y.add_(1)
    with pytest.raises(RuntimeError, match="written into before the backward pass"):
        result.sum().backward()


def test_without_gradients_rows_are_just_taken() -> None:
    x = activation(channels_last=False)
    with torch.no_grad(), in_order(x, ORDER) as rows:
        assert torch.equal(rows, x[ORDER])
