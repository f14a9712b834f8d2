"""Where a training run writes its numbers."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter


class TrainingLog:
    """TensorBoard events in a folder, or nothing where there is none.

    Args:
        folder: gets the event files.
        first_step: a resumed run drops what an earlier one wrote from this step on.
    """

    def __init__(self, folder: Path | None, first_step: int = 0) -> None:
        self._writer = None if folder is None else SummaryWriter(str(folder), purge_step=first_step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write one point of each curve."""
        if self._writer is not None:
            for tag, value in values.items():
                self._writer.add_scalar(tag, value, step)

    def images(self, tag: str, images: Tensor, step: int) -> None:
        """Write uint8 images of shape (N, C, H, W) as a grid."""
        if self._writer is not None:
            self._writer.add_images(tag, images, step)

    def heat_map(self, tag: str, values: Tensor, step: int, cell: int = 16) -> None:
        """Write a matrix of values in [0, 1] as a picture: rows downwards, 1 is white."""
        if self._writer is not None:
            picture = values.detach().to(torch.float32).cpu().clamp(0, 1)
            large = picture.repeat_interleave(cell, 0).repeat_interleave(cell, 1)
            self._writer.add_image(tag, large[None], step)

    def close(self) -> None:
        """Flush and close the file."""
        if self._writer is not None:
            self._writer.close()
