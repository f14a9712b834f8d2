"""Gradients for probabilities whose sampled candidate alone was computed.

With ``y_k`` the output of a layer at candidate k and ``s`` the sampled one, the expectation
``sum_k p_k y_k`` has the gradient ``<dL/dy, y_k>`` with respect to ``p_k``; since probabilities sum
to one, ``<dL/dy, y_k - y_s>`` serves as well and is smaller. It is computed here for the candidates
next to the sampled one, which is where an ordered, narrow distribution has its mass, or for one of
the two; the others get zero. Their outputs are computed in the backward pass, without gradients of
their own, so that they cost one forward pass of the layer each and no memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dqmq_env.quantization.choice import RelaxedBits
from dqmq_env.quantization.rows import is_channels_last, take_rows

_NEGLIGIBLE = 1e-3

LayerAt = Callable[[Tensor, int, Tensor], Tensor]
"""Computes a layer on what some images are there, at the candidate of a position.

The images' numbers in the batch come last.
"""


@dataclass(frozen=True)
class Part:
    """The part of a batch that shares a candidate.

    Attributes:
        position: of the candidate.
        groups: indices of the groups, int64.
        images: indices of their images, int64, ascending.
    """

    position: int
    groups: Tensor
    images: Tensor


def split_by_candidate(sample: Tensor, batch: int) -> list[Part]:
    """Split a batch by what was sampled for its groups (G,), by ascending candidate."""
    size = batch // len(sample)
    within = torch.arange(size, device=sample.device)
    parts = []
    for position in sample.unique().tolist():
        groups = (sample == position).nonzero()[:, 0]
        parts.append(Part(position, groups, (groups[:, None] * size + within).flatten()))
    return parts


def credit_neighbours(
    output: Tensor, x: Tensor, choice: RelaxedBits, parts: Sequence[Part], layer_at: LayerAt
) -> Tensor:
    """Return ``output`` unchanged, and in the backward pass give ``probabilities`` their gradient.

    Args:
        output: of the layer at the sampled candidates, shape (N, ...); not to be written into.
        x: what the layer received, shape (N, ...); the same.
        choice: gives probabilities (G, K), and which neighbours are credited.
        parts: which images were computed at which candidate.
        layer_at: the layer.
    """
    credited: Tensor = _Credit.apply(
        output, x.detach(), choice.probabilities, choice.credited, parts, layer_at
    )
    return credited


class _Credit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        output: Tensor,
        x: Tensor,
        probabilities: Tensor,
        offsets: tuple[int, ...],
        parts: Sequence[Part],
        layer_at: LayerAt,
    ) -> Tensor:
        ctx.save_for_backward(output, x, probabilities)
        ctx.offsets, ctx.parts, ctx.layer_at = offsets, parts, layer_at
        return output.view_as(output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor, None, None, None]:
        output, x, probabilities = ctx.saved_tensors
        credit = torch.zeros_like(probabilities)
        for part in ctx.parts:
            positions = _neighbours(part, probabilities, ctx.offsets)
            if not positions:
                continue
            g_part, x_part, y_part = (_of_part(own, part) for own in (gradient, x, output))
            for position in positions:
                change = ctx.layer_at(x_part, position, part.images).sub_(y_part)
                gains = _products(change, g_part).view(len(part.groups), -1).sum(1)
                credit[part.groups, position] = gains
        return gradient, None, credit * (2 / len(ctx.offsets)), None, None, None


def _of_part(x: Tensor, part: Part) -> Tensor:
    return x if len(part.images) == len(x) else take_rows(x, part.images)


def _products(one: Tensor, other: Tensor) -> Tensor:
    """The inner product of each image's numbers, shape (N,), without a copy of any."""
    if is_channels_last(one):
        one, other = (x.permute(0, 2, 3, 1) for x in (one, other))
    products: Tensor = torch.linalg.vecdot(one.flatten(1), other.flatten(1))
    return products


def _neighbours(part: Part, probabilities: Tensor, offsets: Sequence[int]) -> list[int]:
    near = [part.position + offset for offset in offsets]
    inside = [position for position in near if 0 <= position < probabilities.shape[1]]
    offered = probabilities[part.groups].amax(0)
    return [position for position in inside if float(offered[position]) > _NEGLIGIBLE]
