"""A layer at relaxed bits: the mean over its candidates, or one of them for each group."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dqmq_env.errors import AssignmentError
from dqmq_env.quantization.choice import Modulated, RelaxedBits
from dqmq_env.quantization.credit import Part, credit_neighbours, split_by_candidate
from dqmq_env.quantization.rows import computed_apart

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


def sampled(
    at_candidate: AtCandidate,
    x: Tensor,
    choice: RelaxedBits,
    modulated: Modulated | None,
    axis: int,
    written_into: bool,
) -> Tensor:
    """The output at the sampled candidates; probabilities get their gradient by credit.

    Args:
        at_candidate: computes the layer.
        x: what it receives, shape (N, ...).
        choice: has a sample.
        modulated: scale and offset that follow, if any do.
        axis: where the channels of the output are.
        written_into: whether the network may write into what it gets.
    """
    assert choice.sample is not None
    parts = split_by_candidate(choice.sample, len(x))
    output = _by_parts(at_candidate, x, parts)
    if modulated is not None:
        output = modulated.applied(output, axis, written_into)
    if not torch.is_grad_enabled() or not choice.probabilities.requires_grad:
        return output

    def layer_at(own: Tensor, position: int, images: Tensor) -> Tensor:
        plain = at_candidate(own, position)
        if modulated is None:
            return plain
        return modulated.of(images, len(x)).applied(plain, axis, written_into)

    output = credit_neighbours(output, x, choice, parts, layer_at)
    # what is kept for credit must outlive what is written
    return output.clone() if written_into else output


def _by_parts(at_candidate: AtCandidate, x: Tensor, parts: Sequence[Part]) -> Tensor:
    if len(parts) == 1:
        return at_candidate(x, parts[0].position)
    images = [part.images for part in parts]
    return computed_apart(x, images, lambda own, k: at_candidate(own, parts[k].position))
