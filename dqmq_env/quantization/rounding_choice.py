"""Round a layer's weights to several grids, each row by the rounding that suits it best.

Shapes: G groups, O output channels of a group, C columns, K grids.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dqmq_env.quantization.grid import Grid
from dqmq_env.quantization.rounding import Levels, Rounding
from dqmq_env.quantization.step_size import MeanSquaredError

# with more than 6 bits all roundings are alike
_REACH = 32
_FLOOR = 0.01
_SMALLEST = 1e-12


def round_rows(
    weight: Tensor,
    grids: Sequence[Grid],
    moment: Tensor,
    held_out: Tensor,
    rule: MeanSquaredError,
    roundings: Sequence[Rounding],
) -> tuple[Tensor, Tensor]:
    """Levels (G, K * O, C) and steps (G, K * O) of the rows at all grids.

    Args:
        weight: shape (G, O, C).
        grids: ascending.
        moment: second moments of the input, shape (G, C, C).
        held_out: inputs of other images, shape (G, n, C), by which roundings are judged.
        rule: sets steps, with squared errors weighted by the mean square of the input, which makes
            them those of the output for inputs without correlation.
        roundings: what is compared up to 6 bits; wider grids get the first.
    """
    groups, channels, _ = weight.shape
    importance = moment.diagonal(dim1=1, dim2=2)
    floor = _FLOOR * importance.mean(1, keepdim=True).clamp_min(_SMALLEST)
    importance = (importance + floor).repeat_interleave(channels, 0)
    narrow = sum(grid.reach <= _REACH for grid in grids)
    found = []
    for some, compared in ((grids[:narrow], roundings), (grids[narrow:], roundings[:1])):
        if some:
            steps = [rule(weight.flatten(0, 1), grid, importance) for grid in some]
            together = torch.cat([row.view(groups, channels) for row in steps], 1)
            rows, allowed = weight.repeat(1, len(some), 1), Levels.of(some, channels, weight)
            found.append(_best(compared, rows, together, allowed, moment, held_out))
    return torch.cat([levels for levels, _ in found], 1), torch.cat([own for _, own in found], 1)


def _best(
    roundings: Sequence[Rounding],
    rows: Tensor,
    steps: Tensor,
    allowed: Levels,
    moment: Tensor,
    held_out: Tensor,
) -> tuple[Tensor, Tensor]:
    """For each row, levels and step of the rounding with the least output error."""
    levels, chosen = roundings[0](rows, steps, allowed, moment)
    if len(roundings) == 1:
        return levels, chosen
    least = _output_error(rows - levels * chosen[..., None], held_out)
    for rounding in roundings[1:]:
        others, own = rounding(rows, steps, allowed, moment)
        error = _output_error(rows - others * own[..., None], held_out)
        better = error < least
        levels = torch.where(better[..., None], others, levels)
        chosen, least = torch.where(better, own, chosen), torch.minimum(error, least)
    return levels, chosen


def _output_error(change: Tensor, inputs: Tensor) -> Tensor:
    """Mean square of ``change @ x`` over inputs (G, n, C), for rows (G, R, C) of a change."""
    return (inputs @ change.transpose(1, 2)).square_().mean(1)
