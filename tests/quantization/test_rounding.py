import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dqmq_env.quantization.grid import Grid, weight_grid
from dqmq_env.quantization.rounding import ErrorFeedback, Levels, Nearest
from dqmq_env.quantization.step_size import MeanSquaredError

Case = tuple[Tensor, Tensor, Levels, Tensor, list[Grid]]


def make_case(seed: int, groups: int, rows: int, columns: int, bits: tuple[int, ...]) -> Case:
    """Random weights (G, K * rows, columns), steps, levels, and moments of correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(groups, 4 * columns + 3, columns, generator=generator)
    inputs = inputs @ torch.randn(groups, columns, columns, generator=generator)
    moment = inputs.transpose(1, 2) @ inputs / inputs.shape[1]
    weight = torch.randn(groups, rows, columns, generator=generator)
    grids = [weight_grid(width) for width in bits]
    found = [MeanSquaredError()(weight.flatten(0, 1), grid).view(groups, rows) for grid in grids]
    levels = Levels.of(grids, rows, weight)
    return weight.repeat(1, len(bits), 1), torch.cat(found, 1), levels, moment, grids


def output_error(weight: Tensor, levels: Tensor, steps: Tensor, moment: Tensor) -> Tensor:
    error = weight - levels * steps[..., None]
    return ((error @ moment) * error).sum(2)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    groups=st.integers(1, 3),
    columns=st.sampled_from([1, 2, 9, 70]),
    bits=st.sampled_from([(2, 4), (1, 3), (8,), (2, 3, 4, 5)]),
    sweeps=st.integers(0, 2),
)
def test_levels_lie_on_the_grids(
    seed: int, groups: int, columns: int, bits: tuple[int, ...], sweeps: int
) -> None:
    weight, steps, allowed, moment, grids = make_case(seed, groups, 3, columns, bits)
    for rounding in (Nearest(), ErrorFeedback(sweeps=sweeps)):
        levels, found = rounding(weight, steps, allowed, moment)
        assert bool((found > 0).all())
        for grid, part in zip(grids, levels.split(3, 1), strict=True):
            codes = part - grid.offset
            assert torch.equal(codes, codes.round())
            assert grid.low <= int(codes.min())
            assert int(codes.max()) <= grid.high


@pytest.mark.parametrize("columns", [9, 70])
def test_feedback_lowers_the_error_of_most_layers(columns: int) -> None:
    """Not of all: what is clamped cannot be made up for."""
    lowered = 0
    for seed in range(30):
        weight, steps, allowed, moment, _ = make_case(seed, 2, 8, columns, (2, 3, 4))
        nearest, fed_back = (
            output_error(weight, *rounding(weight, steps, allowed, moment), moment).sum()
            for rounding in (Nearest(), ErrorFeedback(sweeps=0))
        )
        lowered += bool(fed_back < nearest)
    assert lowered >= 27


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), columns=st.sampled_from([9, 70]))
def test_sweeps_never_raise_the_error_of_a_row(seed: int, columns: int) -> None:
    weight, steps, allowed, moment, _ = make_case(seed, 2, 8, columns, (2, 3, 4))
    diagonal = moment.diagonal(dim1=1, dim2=2)
    damping = ErrorFeedback().damping * diagonal.mean(1)[:, None, None]
    damped = moment + damping * torch.eye(columns)
    before, *after = (
        output_error(weight, *ErrorFeedback(sweeps=sweeps)(weight, steps, allowed, moment), damped)
        for sweeps in range(4)
    )
    for error in after:
        assert bool((error <= before * (1 + 1e-4)).all())
        before = error


def test_uncorrelated_inputs_leave_nearest_rounding() -> None:
    weight, steps, allowed, moment, _ = make_case(0, 1, 5, 12, (3, 4))
    apart = torch.eye(12)[None] * torch.rand(12)
    levels, found = ErrorFeedback(sweeps=0)(weight, steps, allowed, apart)
    assert torch.equal(levels, Nearest()(weight, steps, allowed, moment)[0])
    assert torch.equal(found, steps)


def test_first_column_as_obq_has_it() -> None:
    """Frantar and Alistarh 2022, equation 3: ``w -= error / [H^-1]_qq * [H^-1]_q:``."""
    weight, steps, allowed, moment, _ = make_case(3, 1, 4, 2, (3,))
    moment[0, 0, 0] += 10  # so that the first column goes first
    levels, _ = ErrorFeedback(damping=0.0, sweeps=0)(weight, steps, allowed, moment)
    inverse = moment[0].double().inverse().float()
    first = levels[0, :, 0] * steps[0]
    rest = weight[0, :, 1] - (weight[0, :, 0] - first) / inverse[0, 0] * inverse[0, 1]
    assert torch.equal(levels[0, :, 1], (rest / steps[0]).round().clamp(-4, 3))


@pytest.mark.parametrize("dead", [slice(0, 4), slice(0, 12)])
def test_inputs_that_are_always_zero(dead: slice) -> None:
    weight, steps, allowed, moment, _ = make_case(0, 1, 5, 12, (2, 8))
    moment[:, dead] = 0
    moment[:, :, dead] = 0
    levels, found = ErrorFeedback()(weight, steps, allowed, moment)
    assert bool(torch.isfinite(levels).all() & torch.isfinite(found).all())
    if dead == slice(0, 12):
        assert torch.equal(levels, Nearest()(weight, steps, allowed, moment)[0])


def test_importance_moves_the_step_to_what_counts() -> None:
    values = torch.tensor([[1.0, 0.3, 0.3, 0.3, 4.0]])
    important = torch.tensor([[0.0, 1.0, 1.0, 1.0, 0.0]])
    grid = weight_grid(2)
    rule = MeanSquaredError()
    assert float(rule(values, grid, important)) < float(rule(values, grid))
    assert torch.equal(rule(values, grid, torch.ones(1, 5)), rule(values, grid))
