"""A layer at relaxed bits: the mean over its candidates, or one of them for each group."""

from collections.abc import Callable

import torch
from torch import Tensor

from dqmq_env.errors import AssignmentError
from dqmq_env.quantization.choice import RelaxedBits
from dqmq_env.quantization.credit import credit_neighbours, reorder, split_by_candidate

AtCandidate = Callable[[Tensor, int], Tensor]
"""Computes the layer on some images (N, ...) at the candidate of a position."""


def check_relaxed(name: str, x: Tensor, choice: RelaxedBits, count: int) -> None:
    """Refuse relaxed bits that do not fit.

    Args:
        name: of the layer.
        x: what it receives, shape (N, ...).
        choice: its bits.
        count: number of its candidates.

    Raises:
        AssignmentError: probabilities or sample do not fit the candidates or the batch.
    """
    shape = tuple(choice.probabilities.shape)
    if len(shape) != 2 or shape[1] != count or not shape[0] or len(x) % shape[0]:
        raise AssignmentError(
            f"{name}: got probabilities of shape {shape}, allowed is (groups, "
            f"{count}) with groups dividing the batch of {len(x)}"
        )
    sample = choice.sample
    if sample is None:
        return
    if sample.shape != shape[:1] or int(sample.min()) < 0 or int(sample.max()) >= count:
        raise AssignmentError(
            f"{name}: got the sample {sample.tolist()}, allowed is a position from "
            f"0 to {count - 1} for each of {shape[0]} groups"
        )


def expectation(at_candidate: AtCandidate, x: Tensor, probabilities: Tensor) -> Tensor:
    """The mean output, sum over k of p_k * f(Q_k(x), Q_k(w)); candidates of p = 0 are left out.

    Where probabilities are one-hot this is the hard form, to the last bit.

    Args:
        at_candidate: computes the layer.
        x: what it receives, shape (N, ...).
        probabilities: of the K candidates for each group of consecutive images, shape (G, K).
    """
    offered = (probabilities != 0).any(0).tolist()
    total: Tensor | None = None
    for position in range(probabilities.shape[1]):
        if not offered[position]:
            continue
        output = at_candidate(x, position)
        share = probabilities[:, position].repeat_interleave(len(x) // len(probabilities))
        weighted = output * share.view(-1, *(1 for _ in output.shape[1:]))
        total = weighted if total is None else total + weighted
    assert total is not None
    return total


def sampled(at_candidate: AtCandidate, x: Tensor, choice: RelaxedBits) -> Tensor:
    """The output at the sampled candidates; probabilities get their gradient by credit.

    Args:
        at_candidate: computes the layer.
        x: what it receives, shape (N, ...).
        choice: has a sample.
    """
    assert choice.sample is not None
    parts = split_by_candidate(choice.sample, len(x))
    if len(parts) > 1:
        order = torch.cat([part.images for part in parts])
        x = reorder(x, order)
    pieces = [
        at_candidate(piece, part.position)
        for piece, part in zip(x.split([len(p.images) for p in parts]), parts, strict=True)
    ]
    output = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    credited = torch.is_grad_enabled() and choice.probabilities.requires_grad
    if credited:
        output = credit_neighbours(output, x, choice, parts, at_candidate)
    if len(parts) > 1:
        return reorder(output, order.argsort())
    # what was saved for credit must outlive a network that writes into what it gets
    return output.clone() if credited else output
