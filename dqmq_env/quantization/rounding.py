"""Round weights so that the output of their layer, not the weights, changes least.

For inputs ``x`` of a layer, rounding its weights ``W`` to ``V`` changes its output by a mean square
of ``trace((W - V) H (W - V)^T)`` with ``H = E[x x^T]``, which a row of ``W`` contributes to on its
own. Rows of several bit-widths are rounded side by side, as they share ``H``.

Shapes: G groups, R rows (bit-widths times output channels of a group), C columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dqmq_env.quantization.grid import Grid

_BLOCK = 64
_SMALLEST = 1e-12


class Levels(NamedTuple):
    """The levels, in steps, that rows may be rounded to; each tensor has the shape (R,).

    Attributes:
        low: the least.
        high: the greatest.
        offset: see :class:`~dqmq_env.quantization.grid.Grid`; ``None`` where it is 0 for all rows.
    """

    low: Tensor
    high: Tensor
    offset: Tensor | None

    @classmethod
    def of(cls, grids: Sequence[Grid], rows: int, like: Tensor) -> "Levels":
        """Those of several grids, each for a number of consecutive rows."""

        def repeated(values: Sequence[float]) -> Tensor:
            return like.new_tensor(values).repeat_interleave(rows)

        offsets = [grid.offset for grid in grids]
        return cls(
            repeated([grid.low + grid.offset for grid in grids]),
            repeated([grid.high + grid.offset for grid in grids]),
            repeated(offsets) if any(offsets) else None,
        )

    def nearest_(self, values: Tensor) -> Tensor:
        """Round values (..., R), in steps, in place."""
        if self.offset is None:
            values.round_()
        else:
            values.sub_(self.offset).round_().add_(self.offset)
        return values.clamp_(self.low, self.high)


class Rounding(Protocol):
    """Rounds rows of weights to levels, and may change their steps."""

    def __call__(
        self, weight: Tensor, steps: Tensor, levels: Levels, moment: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Round.

        Args:
            weight: shape (G, R, C).
            steps: above zero, shape (G, R).
            levels: of R rows.
            moment: second moments of the inputs ``H``, shape (G, C, C).

        Returns:
            Levels (G, R, C) and steps (G, R); their product stands for the weight.
        """
        ...


@dataclass(frozen=True)
class Nearest:
    """Each weight to the level next to it, whatever the inputs are."""

    def __call__(
        self, weight: Tensor, steps: Tensor, levels: Levels, moment: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See :class:`Rounding`."""
        scaled = weight.transpose(1, 2) * steps.reciprocal()[:, None]
        return levels.nearest_(scaled).transpose(1, 2).contiguous(), steps


@dataclass(frozen=True)
class ErrorFeedback:
    """Column by column, with each column's error made up for by the columns that follow.

    That is GPTQ (Frantar et al. 2023, algorithm 1), which is OBQ (Frantar and Alistarh 2022,
    equation 3) in one order for all rows, here by descending moment of the input. Sweeps follow: in
    each, the step of a row becomes the one with the least error at its levels,
    ``s = (v H w) / (v H v)``, and each level in turn the best one given all others.

    Attributes:
        damping: what is added to the diagonal of ``H``, as a fraction of its mean.
        sweeps: their number.
    """

    damping: float = 0.01
    sweeps: int = 1

    def __call__(
        self, weight: Tensor, steps: Tensor, levels: Levels, moment: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See :class:`Rounding`."""
        damped = moment.clone()
        diagonal = damped.diagonal(dim1=1, dim2=2)
        diagonal.add_(self.damping * diagonal.mean(1, keepdim=True).clamp_min(_SMALLEST))
        order = diagonal.argsort(stable=True, dim=1, descending=True)
        damped = _ordered(_ordered(damped, order).transpose(1, 2), order)
        columns = _ordered(weight.transpose(1, 2), order)
        rounded = _feed_back(columns, steps, levels, damped)
        for _ in range(self.sweeps):
            steps = _best_steps(columns, rounded, steps, damped)
            _sweep(columns, rounded, steps, levels, damped)
        return _ordered(rounded, order.argsort(1)).transpose(1, 2).contiguous(), steps


# Below, weights are held column by column, shape (G, C, R), as that is how they are gone through.


def _ordered(x: Tensor, order: Tensor) -> Tensor:
    """The columns ``x`` (G, C, .) in another order for each group."""
    return x.gather(1, order[..., None].expand_as(x))


def _feed_back(weight: Tensor, steps: Tensor, levels: Levels, moment: Tensor) -> Tensor:
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moment.double()))
    factor = torch.linalg.cholesky(inverse, upper=True).to(weight.dtype)
    rest, rounded = weight.clone(), torch.empty_like(weight)
    to_levels = steps.reciprocal()
    for start in range(0, weight.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        own, within = rest[:, block], factor[:, block, block]
        errors = torch.empty_like(own)
        to_errors = within.diagonal(dim1=1, dim2=2).reciprocal()
        for column in range(own.shape[1]):
            values = own[:, column]
            found = levels.nearest_(values * to_levels)
            rounded[:, start + column] = found
            error = torch.addcmul(values, found, steps, value=-1, out=errors[:, column])
            error.mul_(to_errors[:, column, None])
            own[:, column + 1 :].addcmul_(
                within[:, column, column + 1 :, None], error[:, None], value=-1
            )
        rest[:, block.stop :].baddbmm_(
            factor[:, block, block.stop :].transpose(1, 2), errors, alpha=-1
        )
    return rounded


def _best_steps(weight: Tensor, rounded: Tensor, steps: Tensor, moment: Tensor) -> Tensor:
    projected = moment @ rounded
    norm = (projected * rounded).sum(1)
    best = (projected * weight).sum(1) / norm.clamp_min(_SMALLEST)
    return torch.where((norm > _SMALLEST) & (best > 0.5 * steps) & (best < 2 * steps), best, steps)


def _sweep(weight: Tensor, rounded: Tensor, steps: Tensor, levels: Levels, moment: Tensor) -> None:
    """Make each level in turn the best one given the others; ``rounded`` is changed in place."""
    slope = moment @ torch.addcmul(weight, rounded, steps[:, None], value=-1)
    inverse = moment.diagonal(dim1=1, dim2=2).reciprocal()
    to_levels = steps.reciprocal()
    for start in range(0, weight.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        own, within = slope[:, block], moment[:, block, block]
        to_changes = inverse[:, block, None] * to_levels[:, None]
        changes = torch.empty_like(own)
        for column in range(own.shape[1]):
            before = rounded[:, start + column]
            found = levels.nearest_(torch.addcmul(before, own[:, column], to_changes[:, column]))
            change = torch.sub(found, before, out=changes[:, column]).mul_(steps)
            before.copy_(found)
            own[:, column + 1 :].addcmul_(
                within[:, column, column + 1 :, None], change[:, None], value=-1
            )
        slope[:, block.stop :].baddbmm_(
            moment[:, block, block.stop :].transpose(1, 2), changes, alpha=-1
        )
