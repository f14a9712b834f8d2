"""How a choice that was drawn passes its gradient on to the probabilities it was drawn from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from agents.hybrid.heads import Drawn
from dqmq_env.quantization.choice import RelaxedBits


class Gradient(Protocol):
    """From a decision that was drawn to what a layer is given, and to what else is learned from."""

    @property
    def paired(self) -> bool:
        """Whether what is drawn is compared with a second draw for the same images."""
        ...

    def bits(self, drawn: Drawn, generator: torch.Generator) -> RelaxedBits:
        """What the layer computes with."""
        ...

    def log_probability(self, drawn: Drawn) -> Tensor | None:
        """What is multiplied by what follows from the choice, shape (G,), where anything is."""
        ...


@dataclass(frozen=True)
class StraightThrough:
    """The sample is computed; widths next to it are credited with what they would have changed.

    Attributes:
        both: both of them; or one at random, with twice the weight, which leaves the mean gradient
            as it is and saves a pass.
    """

    both: bool
    paired: bool = False

    def bits(self, drawn: Drawn, generator: torch.Generator) -> RelaxedBits:
        """See :class:`Gradient`."""
        offsets: tuple[int, ...] = (-1, 1)
        if not self.both:
            offsets = (offsets[int(torch.randint(2, (), generator=generator))],)
        return RelaxedBits(drawn.relaxed, drawn.sample, offsets)

    def log_probability(self, drawn: Drawn) -> Tensor | None:
        """See :class:`Gradient`: nothing."""
        return None


@dataclass(frozen=True)
class Relaxed:
    """The mean over all widths is computed, with gradients through all of them."""

    paired: bool = False

    def bits(self, drawn: Drawn, generator: torch.Generator) -> RelaxedBits:
        """See :class:`Gradient`."""
        return RelaxedBits(drawn.relaxed)

    def log_probability(self, drawn: Drawn) -> Tensor | None:
        """See :class:`Gradient`: nothing."""
        return None


@dataclass(frozen=True)
class Score:
    """The score function (Williams 1992): no gradient passes through the network.

    Attributes:
        paired: what a group's loss is compared with: that of a second draw for the same images, or
            the mean of the other groups.
    """

    paired: bool = False

    def bits(self, drawn: Drawn, generator: torch.Generator) -> RelaxedBits:
        """See :class:`Gradient`."""
        return RelaxedBits(drawn.relaxed.detach(), drawn.sample)

    def log_probability(self, drawn: Drawn) -> Tensor | None:
        """See :class:`Gradient`: the logarithm of the sample's probability."""
        own = drawn.probabilities.gather(1, drawn.sample[:, None])[:, 0]
        return own.clamp_min(1e-12).log()


@dataclass(frozen=True)
class Fixed:
    """Nothing is learned from the choice."""

    paired: bool = False

    def bits(self, drawn: Drawn, generator: torch.Generator) -> RelaxedBits:
        """See :class:`Gradient`."""
        return RelaxedBits(drawn.relaxed.detach(), drawn.sample)

    def log_probability(self, drawn: Drawn) -> Tensor | None:
        """See :class:`Gradient`: nothing."""
        return None


GRADIENTS: Mapping[str, Gradient] = {
    "neighbours": StraightThrough(both=True),
    "neighbour": StraightThrough(both=False),
    "relaxed": Relaxed(),
    "score": Score(),
    "paired": Score(paired=True),
}
