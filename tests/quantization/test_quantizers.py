import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dqmq_env.errors import SettingError
from dqmq_env.quantization.grid import Grid, activation_grid, weight_grid
from dqmq_env.quantization.quantizers import learned_quantize, quantize, quantize_to_codes
from dqmq_env.quantization.step_size import (
    LearnedStepSize,
    MeanSquaredError,
    MinMax,
    StepSizeRule,
    zero_point,
)

BITS = range(1, 9)
RULES: list[StepSizeRule] = [MinMax(), MeanSquaredError(), LearnedStepSize()]


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    bits = draw(st.sampled_from(BITS))
    if draw(st.booleans()):
        return weight_grid(bits)
    return activation_grid(bits, draw(st.integers(0, 2**bits - 1)))


@st.composite
def inputs(draw: st.DrawFn, per_channel: bool) -> tuple[Tensor, Tensor]:
    """Values (6, 5, 3, 3), some far outside the range of the steps, and steps for them."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    spread = draw(st.sampled_from([0.01, 1.0, 30.0]))
    x = torch.randn(6, 5, 3, 3, generator=generator) * spread
    if not per_channel:
        return x, torch.tensor(draw(st.floats(0.01, 2)))
    return x, torch.rand(6, 1, 1, 1, generator=generator) + 0.01


def levels(grid: Grid) -> Tensor:
    """Every value of a grid in units of its step."""
    return torch.arange(grid.low, grid.high + 1) + grid.offset


@pytest.mark.parametrize("bits", BITS)
def test_weight_grid_uses_every_code_once(bits: int) -> None:
    values = levels(weight_grid(bits))
    assert len(values) == 2**bits
    if bits == 1:
        assert values.tolist() == [-0.5, 0.5]
    else:
        assert (values.min(), values.max()) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    assert weight_grid(bits).reach == values.abs().max()


@pytest.mark.parametrize("bits", BITS)
def test_activation_grid_is_unsigned_and_moved_by_its_zero_point(bits: int) -> None:
    assert levels(activation_grid(bits)).tolist() == list(range(2**bits))
    for zero in (0, 1, 2**bits - 1):
        assert levels(activation_grid(bits, zero)).tolist() == [k - zero for k in range(2**bits)]


@pytest.mark.parametrize("bits", [-1, 0, 9, 32])
def test_grids_refuse_other_widths(bits: int) -> None:
    with pytest.raises(SettingError, match=f"bits: got {bits}"):
        weight_grid(bits)
    with pytest.raises(SettingError, match=f"bits: got {bits}"):
        activation_grid(bits)


@pytest.mark.parametrize("zero", [-1, 16])
def test_activation_grid_refuses_a_zero_point_off_the_grid(zero: int) -> None:
    with pytest.raises(SettingError, match=f"zero_point: got {zero}, allowed are 0 to 15"):
        activation_grid(4, zero)


@settings(max_examples=60)
@given(grid=grids(), per_channel=st.booleans(), data=st.data())
def test_values_are_the_nearest_of_the_grid(
    grid: Grid, per_channel: bool, data: st.DataObject
) -> None:
    x, step = data.draw(inputs(per_channel))
    before = x.clone()
    result = quantize(x, step, grid)
    assert torch.equal(x, before)
    scaled = (result / step).double()
    nearest_level = (scaled[..., None] - levels(grid)).abs().amin(-1)
    assert float(nearest_level.max()) < 1e-4
    # no value of the grid is nearer
    distance = (x[..., None] - levels(grid) * step[..., None]).abs().amin(-1)
    assert torch.allclose((result - x).abs(), distance, rtol=1e-4, atol=float(step.max()) * 1e-4)


@settings(max_examples=60)
@given(grid=grids(), per_channel=st.booleans(), data=st.data())
def test_error_is_at_most_half_a_step_inside_the_range(
    grid: Grid, per_channel: bool, data: st.DataObject
) -> None:
    x, step = data.draw(inputs(per_channel))
    low, high = (grid.low + grid.offset) * step, (grid.high + grid.offset) * step
    inside = (x >= low) & (x <= high)
    error = (quantize(x, step, grid) - x).abs()
    assert bool((error[inside] <= (step / 2 * (1 + 1e-4)).expand_as(x)[inside]).all())
    # outside, the value is the bound
    result = quantize(x, step, grid)
    assert torch.allclose(result[x > high], high.expand_as(x)[x > high])
    assert torch.allclose(result[x < low], low.expand_as(x)[x < low])


@settings(max_examples=60)
@given(grid=grids(), per_channel=st.booleans(), data=st.data())
def test_quantising_twice_changes_nothing(
    grid: Grid, per_channel: bool, data: st.DataObject
) -> None:
    x, step = data.draw(inputs(per_channel))
    once = quantize(x, step, grid)
    assert torch.equal(quantize(once, step, grid), once)


@settings(max_examples=60)
@given(grid=grids(), per_channel=st.booleans(), data=st.data())
def test_codes_stand_for_the_quantised_values(
    grid: Grid, per_channel: bool, data: st.DataObject
) -> None:
    x, step = data.draw(inputs(per_channel))
    codes = quantize_to_codes(x, step, grid)
    assert codes.dtype == torch.int16
    assert codes.shape == x.shape
    assert int(codes.min()) >= grid.low
    assert int(codes.max()) <= grid.high
    assert torch.equal((codes + grid.offset) * step, quantize(x, step, grid))


def test_memory_layout_is_kept() -> None:
    x = torch.randn(2, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    result = quantize(x, torch.tensor(0.1), activation_grid(4, 8))
    assert result.is_contiguous(memory_format=torch.channels_last)


def lsq_reference(
    x: Tensor, step: Tensor, grid: Grid, gradient: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Gradients of Learned Step Size Quantization, equations 2 and 3, value by value."""
    to_x, to_step = torch.zeros_like(x), torch.zeros_like(step)
    low, high = grid.low + grid.offset, grid.high + grid.offset
    steps = step.expand_as(x)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in x.shape)).tolist():
        place = tuple(index)
        ratio = float(x[place]) / float(steps[place])
        if ratio <= low:
            slope = low
        elif ratio >= high:
            slope = high
        else:
            slope = round(ratio - grid.offset) + grid.offset - ratio
            to_x[place] = gradient[place]
        target = tuple(0 if n == 1 else i for i, n in zip(place, step.shape, strict=True))
        to_step[target] += slope * scale * float(gradient[place])
    return to_x, to_step


@settings(max_examples=25)
@given(grid=grids(), per_channel=st.booleans(), seed=st.integers(0, 999))
def test_learned_quantize_has_the_gradients_of_lsq(
    grid: Grid, per_channel: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(3, 4, 5, generator=generator, dtype=torch.float64) * 2).requires_grad_()
    shape = (3, 1, 1) if per_channel else (1, 1, 1)
    step = torch.rand(shape, generator=generator, dtype=torch.float64) * 0.5 + 0.05
    step.requires_grad_()
    gradient = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    scale = 1 / math.sqrt(x.numel() * max(grid.high, 1))
    result = learned_quantize(x, step, grid, scale)
    result.backward(gradient)
    to_x, to_step = lsq_reference(x.detach(), step.detach(), grid, gradient, scale)
    assert torch.equal(result.detach(), quantize(x.detach(), step.detach(), grid))
    assert x.grad is not None
    assert step.grad is not None
    assert torch.equal(x.grad, to_x)
    assert torch.allclose(step.grad, to_step, rtol=1e-9, atol=1e-12)


def test_learned_quantize_by_hand() -> None:
    x = torch.tensor([-0.3, 0.12, 0.26, 0.9, 5.0], requires_grad=True)
    step = torch.tensor(0.2, requires_grad=True)
    result = learned_quantize(x, step, activation_grid(2), gradient_scale=0.5)
    assert torch.allclose(result, torch.tensor([0.0, 0.2, 0.2, 0.6, 0.6]))
    result.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 0, 0]
    # below: 0; inside: 1 - 0.6 and 1 - 1.3; above: 3 and 3; all times one half
    assert step.grad is not None
    assert float(step.grad) == pytest.approx(0.5 * (0 + 0.4 - 0.3 + 3 + 3), rel=1e-5)


def test_learned_quantize_takes_a_scalar_step() -> None:
    step = torch.tensor(0.3, requires_grad=True)
    learned_quantize(torch.randn(4, 4), step, weight_grid(3)).sum().backward()
    assert step.grad is not None
    assert step.grad.shape == ()


@settings(max_examples=30)
@given(grid=grids(), per_channel=st.booleans(), data=st.data())
def test_forward_is_the_same_with_and_without_gradients(
    grid: Grid, per_channel: bool, data: st.DataObject
) -> None:
    x, step = data.draw(inputs(per_channel))
    tracked = learned_quantize(x.clone().requires_grad_(), step.clone().requires_grad_(), grid)
    assert tracked.requires_grad
    with torch.no_grad():
        untracked = learned_quantize(x, step, grid)
    assert not untracked.requires_grad
    assert torch.equal(tracked.detach(), untracked)
    assert torch.equal(untracked, quantize(x, step, grid))


@settings(max_examples=40)
@given(bits=st.sampled_from(BITS), seed=st.integers(0, 999), shift=st.floats(-3, 3))
def test_min_max_clips_nothing(bits: int, seed: int, shift: float) -> None:
    values = torch.randn(4, 50, generator=torch.Generator().manual_seed(seed)) + shift
    grid = weight_grid(bits)
    steps = MinMax()(values, grid)
    assert steps.shape == (4,)
    assert bool((values.amax(1) <= (grid.high + grid.offset) * steps * (1 + 1e-5)).all())
    assert bool((values.amin(1) >= (grid.low + grid.offset) * steps * (1 + 1e-5)).all())
    # and no smaller step does
    smaller = steps * 0.999
    clipped = (values.amax(1) > (grid.high + grid.offset) * smaller) | (
        values.amin(1) < (grid.low + grid.offset) * smaller
    )
    assert bool(clipped.all())


@settings(max_examples=40)
@given(
    bits=st.sampled_from(BITS),
    seed=st.integers(0, 999),
    tails=st.sampled_from([0.5, 1.0, 3.0]),
    signed=st.booleans(),
)
def test_least_squares_is_never_worse_than_min_max(
    bits: int, seed: int, tails: float, signed: bool
) -> None:
    values = torch.randn(3, 200, generator=torch.Generator().manual_seed(seed))
    values = values.sign() * values.abs() ** tails
    if not signed:
        values = values.relu()
    grid = weight_grid(bits) if signed else activation_grid(bits)

    def error(rule: StepSizeRule) -> Tensor:
        return (quantize(values, rule(values, grid)[:, None], grid) - values).square().sum(1)

    assert bool((error(MeanSquaredError()) <= error(MinMax())).all())


def test_learned_step_size_begins_as_lsq_does() -> None:
    values = torch.tensor([[1.0, -2.0, 3.0], [0.0, 0.0, 6.0]])
    for grid in (weight_grid(4), activation_grid(3)):
        expected = [2 * 2 / math.sqrt(grid.high)] * 2
        assert LearnedStepSize()(values, grid).tolist() == pytest.approx(expected)


@settings(max_examples=80)
@given(
    bits=st.sampled_from(BITS),
    low=st.floats(-100, 100, width=32),
    high=st.floats(-100, 100, width=32),
)
def test_zero_point_stands_for_zero_and_the_range_is_covered(
    bits: int, low: float, high: float
) -> None:
    low, high = min(low, high), max(low, high)
    values = torch.linspace(low, high, 101)[None]
    zero = zero_point(values, bits)
    grid = activation_grid(bits, zero)
    step = MinMax()(values, grid)[:, None]
    assert float(quantize(torch.zeros(1), step[0], grid)) == 0
    if low >= 0:
        assert zero == 0
    error = (quantize(values, step, grid) - values).abs()
    # rounding the zero point leaves out up to half a step at one end
    widest = max(float(step), (max(high, 0) - min(low, 0)) / (2**bits - 1))
    assert float(error.max()) <= widest * 0.5 * (1 + 1e-3) + 1e-7


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("value", [0.0, 1e-30, 0.25, -0.25])
@pytest.mark.parametrize("bits", BITS)
def test_constant_values_give_finite_steps(rule: StepSizeRule, value: float, bits: int) -> None:
    values = torch.full((2, 9), value)
    for grid in (weight_grid(bits), activation_grid(bits, zero_point(values, bits))):
        steps = rule(values, grid)
        assert bool((steps > 0).all())
        assert bool(torch.isfinite(steps).all())
        result = quantize(values, steps[:, None], grid)
        assert bool(torch.isfinite(result).all())
        if value == 0:
            assert float(result.abs().max()) < 1e-8
