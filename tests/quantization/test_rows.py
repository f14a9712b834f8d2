"""Parts of a batch computed apart, of which training keeps nothing but the batch."""

import pytest
import torch
from torch import Tensor

from dqmq_env.quantization.rows import computed_apart, take_rows

PARTS = [torch.tensor(rows) for rows in ([4, 1, 5], [0], [3, 2])]
ORDER = torch.cat(PARTS)


def activation(channels_last: bool) -> Tensor:
    x = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def some_power(rows: Tensor, number: int) -> Tensor:
    return rows ** (number + 2)


def powers(x: Tensor) -> Tensor:
    exponents = torch.tensor([3, 2, 4, 4, 2, 2])
    return x ** exponents.view(-1, *(1,) * (x.ndim - 1))


@pytest.mark.parametrize("channels_last", [False, True])
def test_rows_keep_their_layout(channels_last: bool) -> None:
    x = activation(channels_last)
    taken = take_rows(x, ORDER[:4])
    assert torch.equal(taken, x[ORDER[:4]])
    assert taken.stride() == x.stride()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_parts_are_put_where_they_came_from(
    channels_last: bool, gradients: bool, ndim: int
) -> None:
    x = activation(channels_last)
    x = x if ndim == 4 else x.flatten(ndim - 1).contiguous()
    with torch.set_grad_enabled(gradients):
        result = computed_apart(x, PARTS, some_power)
    torch.testing.assert_close(result, powers(x))
    assert result.stride() == x.stride()


def test_what_is_padded_is_left_out_again() -> None:
    sizes = []

    def note(rows: Tensor, number: int) -> Tensor:
        sizes.append(len(rows))
        return some_power(rows, number)

    x = activation(channels_last=True)
    with torch.no_grad():
        result = computed_apart(x, PARTS, note, lambda count: max(count, 2))
    assert sizes == [3, 2, 2]
    torch.testing.assert_close(result, powers(x))


@pytest.mark.parametrize("channels_last", [False, True])
def test_rows_that_were_handed_out_are_not_kept(channels_last: bool) -> None:
    x = activation(channels_last).requires_grad_()
    handed_out = []

    def compute(rows: Tensor, number: int) -> Tensor:
        handed_out.append(rows)
        return some_power(rows, number)

    result = computed_apart(x + 0, PARTS, compute)
    with torch.no_grad():
        for rows in handed_out:
            rows.detach().zero_()  # nothing looks at them any more
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        torch.autograd.grad(result, x, upstream), torch.autograd.grad(powers(x), x, upstream)
    )


def test_a_batch_that_was_written_into_is_noticed() -> None:
    x = activation(channels_last=False).requires_grad_() + 0
    result = computed_apart(x, PARTS, some_power)
    x.add_(1)
    with pytest.raises(RuntimeError, match="written into before the backward pass"):
        result.sum().backward()
