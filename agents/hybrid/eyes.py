"""What is seen of images before they enter the network."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from dqmq_env.evaluation.statistic_table import image_cells_bops
from dqmq_env.evaluation.statistics import image_cells
from dqmq_env.quality import DESCRIPTOR_NAMES, describe, descriptor_bops

IMAGE_SOURCES: Final = ("quality", "map")
"""The descriptor, and brightness and contrast of the cells of a map."""
SIDE: Final = 4
"""A map has so many cells down and across."""

Describe = Callable[[Tensor], Tensor]
"""From uint8 images (N, C, H, W) to their quality descriptors, shape (N, 6)."""


@dataclass(frozen=True)
class Scene:
    """What is seen of G groups of images before they enter the network.

    Attributes:
        quality: descriptors in [0, 1], shape (G, 6); zeros where they are not looked at.
        cells: see :func:`~dqmq_env.evaluation.statistics.image_cells`; absent where they are not
            looked at.
    """

    quality: Tensor
    cells: Tensor | None = None


class Eyes:
    """Look at images.

    Args:
        shape: of an image, (C, H, W).
        sees: what is looked at; of any names, those of :data:`IMAGE_SOURCES`.
    """

    def __init__(self, shape: Sequence[int], sees: Iterable[str]) -> None:
        self._shape = tuple(shape)
        self._sees = frozenset(sees)

    def scene(self, images: Tensor, groups: int, described_by: Describe = describe) -> Scene:
        """What is seen of uint8 images (N, C, H, W), of which consecutive ones form G groups."""
        quality = torch.zeros(groups, len(DESCRIPTOR_NAMES), device=images.device)
        if "quality" in self._sees:
            quality = described_by(images).unflatten(0, (groups, -1)).mean(1)
        return Scene(quality, image_cells(images, SIDE, groups) if "map" in self._sees else None)

    def bops(self) -> int:
        """Bit operations for one image."""
        channels, height, width = self._shape
        total = descriptor_bops(height, width, channels) if "quality" in self._sees else 0
        return total + (image_cells_bops(self._shape) if "map" in self._sees else 0)
