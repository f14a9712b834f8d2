"""What the policy sees of a group of images when a layer's turn comes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agents.hybrid.eight_bits import MAC_BOPS, rounded, rounded_weight
from agents.hybrid.eyes import SIDE, Scene
from dqmq_env.evaluation.statistic_table import (
    ACTIVATION_STATISTICS,
    channel_means_bops,
    statistics_bops,
)
from dqmq_env.evaluation.statistics import activation_statistics, channel_means
from dqmq_env.quality import DESCRIPTOR_NAMES
from dqmq_env.quantization.spec import LayerSpec

SOURCES = ("quality", "statistics", "channels", "map")
_SPREAD = 4.0
"""Channel means and cells are cut off at so many standard deviations."""


@dataclass(frozen=True)
class Look:
    """What is looked at before a decision, for each of G groups.

    Attributes:
        scene: what is seen of the images.
        statistics: of what the layer receives, in [0, 1], shape (G, 4).
        channels: the mean of each channel as a fraction of the layer's range, shape (G, C); absent
            where the activation is, as in an environment's observation.
    """

    scene: Scene
    statistics: Tensor
    channels: Tensor | None = None

    def take(self, groups: Tensor) -> "Look":
        """What is looked at of some of the groups, int64 (G',)."""
        cells = None if self.scene.cells is None else self.scene.cells[groups]
        channels = None if self.channels is None else self.channels[groups]
        return Look(Scene(self.scene.quality[groups], cells), self.statistics[groups], channels)


def blind_look(like: Tensor) -> Look:
    """What a policy that sees no images looks at, of one group, of the type of some tensor."""
    quality = like.new_zeros(1, len(DESCRIPTOR_NAMES))
    return Look(Scene(quality), like.new_zeros(1, len(ACTIVATION_STATISTICS)))


def joined(looks: Sequence[Look]) -> Look:
    """Looks before the same decision, one after another."""
    cells = [own.scene.cells for own in looks if own.scene.cells is not None]
    channels = [own.channels for own in looks if own.channels is not None]
    scene = Scene(
        torch.cat([own.scene.quality for own in looks]), torch.cat(cells) if cells else None
    )
    return Look(
        scene,
        torch.cat([own.statistics for own in looks]),
        torch.cat(channels) if channels else None,
    )


class View(nn.Module):
    """Turns what is looked at into an embedding; remembers the channels of the layers before.

    With f the quality descriptor, the statistics at hand and the budget, scaled to [-1, 1], s the
    standardised brightness and contrast of the 4 x 4 cells of the image (``map``), and c_m the
    standardised channel means of what layer m receives (``channels``), a decision about layer l is
    given ::

        e_l = tanh(W f_l + b + Q s + sum over m <= l of P_m c_m)

    All products are of 8-bit numbers. What is absent is left out, which is what it would be for an
    image that is average in it.

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
        self.shape = tuple(shape)
        self.sees = frozenset(sees)
        self._specs = tuple(specs)
        count = len(DESCRIPTOR_NAMES) * ("quality" in self.sees)
        count += len(ACTIVATION_STATISTICS) * ("statistics" in self.sees) + budget
        self.sees_budget = budget
        self.size = embedding if count or self.sees & {"map", "channels"} else 0
        self.encoder = nn.Linear(count, self.size) if count else None
        self.cells: nn.Parameter | None = None
        if "map" in self.sees:
            self.cells = self._weight("cells", 2 * self.shape[0] * SIDE**2)
        self.channels = nn.ParameterList()
        if "channels" in self.sees:
            for number, spec in enumerate(self._specs):
                self.channels.append(self._weight(f"channels_{number}", spec.in_channels))

    @property
    def needs_images_alone(self) -> bool:
        """Whether nothing is looked at that comes out of the network."""
        return not self.sees & {"statistics", "channels"}

    def look(self, decision: int, scene: Scene, activation: Tensor, reach: Tensor) -> Look:
        """What is looked at of an activation (N, ...) that a layer is about to receive."""
        groups = len(scene.quality)
        channels = None
        if decision < len(self.channels):
            channels = self._channel_means(decision, activation, reach, groups)
        statistics = scene.quality.new_zeros(groups, len(ACTIVATION_STATISTICS))
        if "statistics" in self.sees:
            axis = self._specs[decision].channel_axis
            statistics = activation_statistics(activation, axis, reach, groups)
        return Look(scene, statistics, channels)

    def embed(
        self, decision: int, look: Look, budget: Tensor, memory: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The embedding (G, E) that a decision is given, and what is to be remembered.

        Args:
            decision: its number, from 0.
            look: what is looked at.
            budget: that of each group, from -1 for the lowest that is learned to 1, shape (G,).
            memory: what was remembered of what was seen before; ``None`` at the first.
        """
        quality, cells = look.scene.quality, look.scene.cells
        groups = len(quality)
        if not self.size:
            return quality.new_zeros(groups, 0), None
        total = quality.new_zeros(groups, self.size)
        if self.encoder is not None:
            features = rounded(self._features(look, budget), 1.0)
            total = features @ rounded_weight(self.encoder.weight).T + self.encoder.bias
        if self.cells is not None and cells is not None and decision == 0:
            memory = self._weighed("cells", cells, self.cells)
        if look.channels is not None and decision < len(self.channels):
            name = f"channels_{decision}"
            added = self._weighed(name, look.channels, self.channels[decision])
            memory = added if memory is None else memory + added
        if memory is not None:
            total = total + memory
        return rounded(torch.tanh(total), 1.0), memory

    @torch.no_grad()
    def calibrate_cells(self, scene: Scene) -> None:
        """Set what standardises the cells from what is seen of images, where they are."""
        if self.cells is not None and scene.cells is not None:
            self._calibrate("cells", scene.cells)

    @torch.no_grad()
    def calibrate(self, decision: int, activation: Tensor, reach: Tensor) -> None:
        """The same of a layer's channel means, from what it receives (N, ...)."""
        if decision < len(self.channels):
            means = self._channel_means(decision, activation, reach, len(activation))
            self._calibrate(f"channels_{decision}", means)

    def bops(self) -> int:
        """Bit operations for what is made of it, and for what is looked at within the network."""
        total = 0 if self.cells is None else self.cells.numel() * MAC_BOPS
        for number, spec in enumerate(self._specs):
            if "statistics" in self.sees:
                total += statistics_bops(spec)
            if number < len(self.channels):
                total += channel_means_bops(spec)
                total += self.channels[number].numel() * MAC_BOPS
            if self.encoder is not None:
                total += self.encoder.in_features * self.size * MAC_BOPS
        return total

    def _weight(self, name: str, count: int) -> nn.Parameter:
        """A fresh weight (count, E), and buffers of what standardises that many numbers."""
        self.register_buffer(f"{name}_mean", torch.zeros(count))
        self.register_buffer(f"{name}_spread", torch.ones(count))
        return nn.Parameter(torch.randn(count, self.size) * (0.3 / count**0.5))

    def _channel_means(
        self, decision: int, activation: Tensor, reach: Tensor, groups: int
    ) -> Tensor:
        return channel_means(activation, self._specs[decision].channel_axis, reach, groups)

    def _calibrate(self, name: str, values: Tensor) -> None:
        getattr(self, f"{name}_mean").copy_(values.mean(0))
        # a number that hardly moves should not be blown up
        spread = values.std(0)
        least = 0.1 * float(spread.mean()) + 1e-6
        getattr(self, f"{name}_spread").copy_(spread.clamp_min(least))

    def _weighed(self, name: str, values: Tensor, weight: Tensor) -> Tensor:
        mean: Tensor = getattr(self, f"{name}_mean")
        spread: Tensor = getattr(self, f"{name}_spread")
        own = ((values - mean) / spread).clamp(-_SPREAD, _SPREAD)
        return rounded(own, _SPREAD) @ rounded_weight(weight)

    def _features(self, look: Look, budget: Tensor) -> Tensor:
        # what lies in [0, 1] fills the encoder's range once it is centred and doubled
        parts = []
        if "quality" in self.sees:
            parts.append(2 * look.scene.quality - 1)
        if "statistics" in self.sees:
            parts.append(2 * look.statistics - 1)
        if self.sees_budget:
            parts.append(budget[:, None])
        return torch.cat(parts, 1)
