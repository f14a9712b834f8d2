"""What the policy sees of a group of images when a layer's turn comes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agents.hybrid.eight_bits import rounded, rounded_weight
from dqmq_env.evaluation.statistic_table import (
    ACTIVATION_STATISTICS,
    channel_maps_bops,
    channel_means_bops,
    statistics_bops,
)
from dqmq_env.evaluation.statistics import activation_statistics, channel_maps, channel_means
from dqmq_env.quality import DESCRIPTOR_NAMES, descriptor_bops
from dqmq_env.quantization.spec import LayerSpec

SOURCES = ("quality", "statistics", "channels", "map")
_MAC_BOPS = 8 * 8
_SPREAD = 4.0
"""Channel means are cut off at so many standard deviations."""
_SIDE = 4
"""A map has so many cells down and across."""


@dataclass(frozen=True)
class Look:
    """What is looked at before a decision, for each of G groups.

    Attributes:
        quality: descriptors in [0, 1], shape (G, 6).
        statistics: of what the layer receives, in [0, 1], shape (G, 4).
        channels: the mean of each channel, or of each of its cells, as a fraction of the layer's
            range, shape (G, C'); absent where the activation is, as in an environment's
            observation.
    """

    quality: Tensor
    statistics: Tensor
    channels: Tensor | None = None

    def take(self, groups: Tensor) -> "Look":
        """What is looked at of some of the groups, int64 (G',)."""
        channels = None if self.channels is None else self.channels[groups]
        return Look(self.quality[groups], self.statistics[groups], channels)


def joined(looks: Sequence[Look]) -> Look:
    """Looks before the same decision, one after another."""
    channels = [own.channels for own in looks if own.channels is not None]
    return Look(
        torch.cat([own.quality for own in looks]),
        torch.cat([own.statistics for own in looks]),
        torch.cat(channels) if channels else None,
    )


class View(nn.Module):
    """Turns what is looked at into an embedding; remembers the channels of the layers before.

    With f the quality descriptor, the statistics at hand and the budget, scaled to [-1, 1], and c_m
    the standardised channel means of what layer m receives (``channels``; of the first decided one,
    with ``map``, the means of the 4 x 4 cells of each channel), a decision about layer l is
    given ::

        e_l = tanh(W f_l + b + sum over m <= l of P_m c_m)

    All products are of 8-bit numbers. Without channel means the sum is left out, which is what it
    would be for an image whose means are average.

    Args:
        shape: of an image, (C, H, W).
        specs: of the layers before which it looks, in forward order.
        sees: which of :data:`SOURCES`; where there are none, the embedding is empty unless it
            holds the budget.
        embedding: E, size of the embedding.
        budget: whether the budget is among what is seen.
    """

    def __init__(
        self,
        shape: Sequence[int],
        specs: Sequence[LayerSpec],
        sees: Sequence[str],
        embedding: int,
        budget: bool,
    ) -> None:
        super().__init__()
        self._shape = tuple(shape)
        self.sees = frozenset(sees)
        self._specs = tuple(specs)
        count = len(DESCRIPTOR_NAMES) * ("quality" in self.sees)
        count += len(ACTIVATION_STATISTICS) * ("statistics" in self.sees) + budget
        self.sees_budget = budget
        self.size = embedding if count or self.pools(0) else 0
        self.encoder = nn.Linear(count, self.size) if count else None
        self.channels = nn.ParameterList()
        for number in range(len(specs)):
            if self.pools(number):
                size = self._pooled_size(number)
                self.channels.append(torch.randn(size, self.size) * (0.3 / size**0.5))
                self.register_buffer(f"mean_{number}", torch.zeros(size))
                self.register_buffer(f"spread_{number}", torch.ones(size))

    def pools(self, decision: int) -> bool:
        """Whether channels are looked at before a decision."""
        if decision >= len(self._specs):
            return False
        return "channels" in self.sees or (decision == 0 and "map" in self.sees)

    def look(self, decision: int, quality: Tensor, activation: Tensor, reach: Tensor) -> Look:
        """What is looked at of an activation (N, ...) that a layer is about to receive."""
        groups = len(quality)
        return Look(
            quality,
            activation_statistics(activation, reach, groups)
            if "statistics" in self.sees
            else quality.new_zeros(groups, len(ACTIVATION_STATISTICS)),
            self.pooled(decision, activation, reach, groups) if self.pools(decision) else None,
        )

    def pooled(self, decision: int, activation: Tensor, reach: Tensor, groups: int) -> Tensor:
        """Channel means, or a map, of an activation (N, ...), shape (G, C')."""
        if self._maps(decision):
            return channel_maps(activation, reach, _SIDE, groups)
        return channel_means(activation, reach, groups)

    def embed(
        self, decision: int, look: Look, budget: Tensor, memory: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The embedding (G, E) that a decision is given, and what is to be remembered.

        Args:
            decision: its number, from 0.
            look: what is looked at.
            budget: that of each group, from -1 for the lowest that is learned to 1, shape (G,).
            memory: what was remembered of the layers before; ``None`` at the first.
        """
        groups = len(look.quality)
        if not self.size:
            return look.quality.new_zeros(groups, 0), None
        total = look.quality.new_zeros(groups, self.size)
        if self.encoder is not None:
            features = rounded(self._features(look, budget), 1.0)
            total = features @ rounded_weight(self.encoder.weight).T + self.encoder.bias
        if look.channels is not None and len(self.channels):
            own = self._standard(decision, look.channels)
            added = rounded(own, _SPREAD) @ rounded_weight(self.channels[decision])
            memory = added if memory is None else memory + added
        if memory is not None:
            total = total + memory
        return rounded(torch.tanh(total), 1.0), memory

    @torch.no_grad()
    def calibrate(self, decision: int, means: Tensor) -> None:
        """Set what standardises a layer's channel means from those of some images (N, C)."""
        getattr(self, f"mean_{decision}").copy_(means.mean(0))
        # a channel that hardly moves should not be blown up
        spread = means.std(0)
        least = 0.1 * float(spread.mean()) + 1e-6
        getattr(self, f"spread_{decision}").copy_(spread.clamp_min(least))

    def bops(self) -> int:
        """Bit operations for all that is looked at of one image and made of it."""
        channels, height, width = self._shape
        total = descriptor_bops(height, width, channels) if "quality" in self.sees else 0
        for number, spec in enumerate(self._specs):
            if "statistics" in self.sees:
                total += statistics_bops(spec.input_shape)
            if self.pools(number):
                pool = channel_maps_bops if self._maps(number) else channel_means_bops
                total += pool(spec.input_shape)
                total += self._pooled_size(number) * self.size * _MAC_BOPS
            if self.encoder is not None:
                total += self.encoder.in_features * self.size * _MAC_BOPS
        return total

    def _maps(self, decision: int) -> bool:
        """Whether cells are looked at, rather than whole channels."""
        return decision == 0 and "map" in self.sees

    def _pooled_size(self, decision: int) -> int:
        """How many numbers are made of what a decided layer receives."""
        spec = self._specs[decision]
        cells = _SIDE**2 if self._maps(decision) and spec.kind != "linear" else 1
        return spec.in_channels * cells

    def _features(self, look: Look, budget: Tensor) -> Tensor:
        # what lies in [0, 1] fills the encoder's range once it is centred and doubled
        parts = []
        if "quality" in self.sees:
            parts.append(2 * look.quality - 1)
        if "statistics" in self.sees:
            parts.append(2 * look.statistics - 1)
        if self.sees_budget:
            parts.append(budget[:, None])
        return torch.cat(parts, 1)

    def _standard(self, decision: int, means: Tensor) -> Tensor:
        mean: Tensor = getattr(self, f"mean_{decision}")
        spread: Tensor = getattr(self, f"spread_{decision}")
        return ((means - mean) / spread).clamp(-_SPREAD, _SPREAD)
