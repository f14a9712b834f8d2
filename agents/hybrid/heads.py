"""From what the policy has seen to a distribution over a layer's bits, in three forms.

All start at the same distribution: a logistic one around ``start`` bits, the uniform width that
spends the budget.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.hybrid.distribution import discretized_logistic

_START_SCALE = 0.7  # softplus(0), where the logistic head starts
_LEAST = 1e-6
_SMALL_PRICE = 0.01  # nats; prices above it grow as the exponential does, so that all are in reach


@dataclass(frozen=True)
class Drawn:
    """A decision for each of G groups.

    Attributes:
        probabilities: of the K widths, shape (G, K); what a decision costs on average.
        relaxed: what gradients of the task reach the policy through, shape (G, K), rows summing to
            one; mostly the probabilities.
        sample: position of the width taken, int64, shape (G,).
    """

    probabilities: Tensor
    relaxed: Tensor
    sample: Tensor

    def take(self, groups: Tensor) -> "Drawn":
        """The decisions for some of the groups, int64 (G',)."""
        return Drawn(self.probabilities[groups], self.relaxed[groups], self.sample[groups])


class Head(nn.Module):
    """A distribution over ordered widths for each decision.

    Args:
        decisions: D, number of decisions.
        widths: K candidate bits, ascending.
        embedding: E, size of what it is given of what was seen.
    """

    def __init__(self, decisions: int, widths: Sequence[float], embedding: int) -> None:
        super().__init__()
        self.widths = tuple(widths)

    def probabilities(
        self, decision: int, seen: Tensor, start: Tensor, temperature: float
    ) -> Tensor:
        """Probabilities of the widths, shape (G, K).

        Args:
            decision: its number, from 0.
            seen: what was made of what was seen, shape (G, E).
            start: bits that the policy starts from, shape (G,).
            temperature: towards zero the most probable width takes all.
        """
        raise NotImplementedError

    def draw(
        self,
        decision: int,
        seen: Tensor,
        start: Tensor,
        temperature: float,
        generator: torch.Generator | None,
        allowed: Tensor | None = None,
    ) -> Drawn:
        """A decision for each group: drawn, or the most probable one without a generator.

        Args:
            decision: see :meth:`probabilities`.
            seen: see :meth:`probabilities`.
            start: see :meth:`probabilities`.
            temperature: see :meth:`probabilities`.
            generator: of draws, on the CPU.
            allowed: which widths a group may take, bool, shape (G, K), one at least; all when left
                out.
        """
        own = _among(self.probabilities(decision, seen, start, temperature), allowed)
        if generator is None:
            return Drawn(own, own, own.argmax(1))
        sample = torch.multinomial(own.detach().cpu(), 1, generator=generator)[:, 0]
        return Drawn(own, own, sample.to(own.device))


class LogisticHead(Head):
    """A location and a scale for each decision, discretised.

    ``location = low + (high - low) * sigmoid(logit(start) + base + gain . seen)``, in bits, between
    half a bit below the lowest and half a bit above the highest width.
    """

    def __init__(self, decisions: int, widths: Sequence[float], embedding: int) -> None:
        super().__init__(decisions, widths, embedding)
        self.base = nn.Parameter(torch.zeros(decisions))
        self.gain = nn.Parameter(torch.randn(decisions, embedding) * 0.1)
        self.log_scale = nn.Parameter(torch.zeros(decisions))

    def location(self, decision: int, seen: Tensor, start: Tensor) -> Tensor:
        """The location of each group in bits, shape (G,)."""
        low, high = self.widths[0] - 0.5, self.widths[-1] + 0.5
        share = ((start - low) / (high - low)).clamp(0.01, 0.99)
        raw = share.logit() + self.base[decision] + seen @ self.gain[decision]
        return low + (high - low) * torch.sigmoid(raw)

    def probabilities(
        self, decision: int, seen: Tensor, start: Tensor, temperature: float
    ) -> Tensor:
        """See :class:`Head`; the temperature is a factor on the scale."""
        scale = F.softplus(self.log_scale[decision]) * temperature
        return discretized_logistic(self.location(decision, seen, start), scale, self.widths)


class SoftmaxHead(Head):
    """A logit for each width, each with gains of its own: ``softmax(logits / temperature)``."""

    def __init__(self, decisions: int, widths: Sequence[float], embedding: int) -> None:
        super().__init__(decisions, widths, embedding)
        self.base = nn.Parameter(torch.zeros(decisions, len(self.widths)))
        self.gain = nn.Parameter(torch.randn(decisions, embedding, len(self.widths)) * 0.1)

    def logits(self, decision: int, seen: Tensor, start: Tensor) -> Tensor:
        """Unnormalised log-probabilities at a temperature of 1, shape (G, K)."""
        scale = torch.full_like(start, _START_SCALE)
        begun = discretized_logistic(start, scale, self.widths).clamp_min(_LEAST).log()
        return begun + self.base[decision] + seen @ self.gain[decision]

    def probabilities(
        self, decision: int, seen: Tensor, start: Tensor, temperature: float
    ) -> Tensor:
        """See :class:`Head`."""
        return (self.logits(decision, seen, start) / temperature).softmax(1)


class GumbelHead(SoftmaxHead):
    """The logits of a softmax, drawn by Gumbel noise (Jang et al. 2017, Maddison et al. 2017).

    The sample is the largest of logit plus noise; gradients pass through the softmax of the same
    sums over the temperature. There is no noise without a generator.
    """

    def probabilities(
        self, decision: int, seen: Tensor, start: Tensor, temperature: float
    ) -> Tensor:
        """See :class:`Head`; they do not depend on the temperature, which is the relaxation's."""
        return self.logits(decision, seen, start).softmax(1)

    def draw(
        self,
        decision: int,
        seen: Tensor,
        start: Tensor,
        temperature: float,
        generator: torch.Generator | None,
        allowed: Tensor | None = None,
    ) -> Drawn:
        """See :class:`Head`."""
        own = _among(self.probabilities(decision, seen, start, temperature), allowed)
        if generator is None:
            return Drawn(own, own, own.argmax(1))
        uniform = torch.rand(own.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
        noisy = own.clamp_min(1e-12).log() - (-uniform.log()).log().to(own.device)
        if allowed is not None:
            noisy = noisy.masked_fill(~allowed, -torch.inf)
        return Drawn(own, (noisy / temperature).softmax(1), noisy.argmax(1))


class ValueHead(Head):
    """What the loss would be at each width, and a price for the BOPs: the best of both is taken.

    With values ``v_k = b_k + g_k . seen`` in nats and costs c_k of the whole network, from 0 at the
    lowest width to 1 at the highest, the width is the k of the least ``v_k + price * c_k``, where
    ``price = 0.01 * sinh(2 * (middle - start))``: below zero where more bits look worse for some
    images and the budget is to be spent nevertheless. Values are not learned by gradients of a
    choice: they are fitted to losses that were measured (:mod:`agents.hybrid.values`), at the
    widths that are offered. Until then widths are drawn around the start, whatever is seen.
    """

    costs: Tensor
    fitted: Tensor
    offered: Tensor

    def __init__(self, decisions: int, widths: Sequence[float], embedding: int) -> None:
        super().__init__(decisions, widths, embedding)
        self.base = nn.Parameter(torch.zeros(decisions, len(self.widths)))
        self.gain = nn.Parameter(torch.randn(decisions, embedding, len(self.widths)) * 0.1)
        self.register_buffer("costs", torch.linspace(0, 1, len(self.widths)))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self.register_buffer("offered", torch.ones(len(self.widths), dtype=torch.bool))

    def values(self, decision: int, seen: Tensor) -> Tensor:
        """Losses at each width in nats, up to what all widths have in common, shape (G, K)."""
        return self.base[decision] + seen @ self.gain[decision]

    def probabilities(
        self, decision: int, seen: Tensor, start: Tensor, temperature: float
    ) -> Tensor:
        """See :class:`Head`; gradients reach nothing."""
        around = discretized_logistic(start, torch.full_like(start, _START_SCALE), self.widths)
        middle = (self.widths[0] + self.widths[-1]) / 2
        price = _SMALL_PRICE * (2 * (middle - start)).sinh()
        total = self.values(decision, seen) + price[:, None] * self.costs
        total = total.masked_fill(~self.offered, torch.inf)
        best = F.one_hot(total.argmin(1), len(self.widths)).to(total)
        return torch.where(self.fitted, best, around).detach()


HEADS: Mapping[str, type[Head]] = {
    "logistic": LogisticHead,
    "softmax": SoftmaxHead,
    "gumbel": GumbelHead,
    "value": ValueHead,
}


def _among(probabilities: Tensor, allowed: Tensor | None) -> Tensor:
    """The probabilities given that one of the allowed widths is taken; of none, the lowest is."""
    if allowed is None:
        return probabilities
    kept = torch.where(allowed, probabilities.clamp_min(1e-12), 0.0)
    return kept / kept.sum(1, keepdim=True)
