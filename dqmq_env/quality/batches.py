"""Batches of mixed quality, a pure function of the seed and the step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dqmq_env.data import ImageSplit
from dqmq_env.errors import SettingError
from dqmq_env.quality.condition import Condition
from dqmq_env.quality.corruptions import corrupt_each
from dqmq_env.quality.mixture import Mixture
from dqmq_env.randomness import numpy_generator, torch_generator


@dataclass(frozen=True)
class Batch:
    """Images as a camera gives them, their labels, and what was done to each.

    Attributes:
        images: uint8, shape (N, C, H, W), augmented and corrupted, not normalised.
        labels: int64, shape (N,).
        conditions: the condition of each image.
    """

    images: Tensor
    labels: Tensor
    conditions: Sequence[Condition]

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on a device."""
        return Batch(self.images.to(device), self.labels.to(device), self.conditions)


@dataclass(frozen=True)
class MixedQualityBatches:
    """Shuffled epochs of a split; images get conditions from the mixture.

    Attributes:
        split: where images come from.
        mixture: what conditions are drawn from.
        size: images in a batch; the last incomplete batch of an epoch is left out.
        seed: everything drawn depends on it, and on the step, alone.
        shift: augmentation: largest shift in pixels, each way, zero-padded; horizontal mirroring
            is applied with probability one half wherever ``shift`` is above zero.
        group: consecutive images that share their condition.
    """

    split: ImageSplit
    mixture: Mixture
    size: int
    seed: int
    shift: int = 2
    group: int = 1

    def __post_init__(self) -> None:
        if self.group < 1 or self.size % self.group:
            raise SettingError(f"group: got {self.group}, allowed are divisors of size {self.size}")
        if not 1 <= self.size <= len(self.split):
            raise SettingError(
                f"size: got batches of {self.size}, allowed are 1 to the {len(self.split)} images "
                "that they are drawn from"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the split."""
        return len(self.split) // self.size

    def at(self, step: int) -> Batch:
        """The batch of a step, counted from 0 over all epochs."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = numpy_generator(self.seed, "order", epoch).permutation(len(self.split))
        chosen = torch.from_numpy(order[position * self.size : (position + 1) * self.size])
        picked = self.split.select(chosen)
        generator = torch_generator(self.seed, "images", step)
        images = _shift_and_mirror(picked.images, self.shift, generator)
        rng = numpy_generator(self.seed, "conditions", step)
        drawn = self.mixture.sample(self.size // self.group, rng)
        conditions = [condition for condition in drawn for _ in range(self.group)]
        return Batch(
            corrupt_each(images, conditions, generator=generator), picked.labels, conditions
        )


def _shift_and_mirror(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    if shift == 0:
        return images
    count, _, height, width = images.shape
    padded = F.pad(images, (shift, shift, shift, shift))
    tops = torch.randint(2 * shift + 1, (count,), generator=generator)
    lefts = torch.randint(2 * shift + 1, (count,), generator=generator)
    mirrored = torch.randint(2, (count,), generator=generator).bool()
    rows = tops[:, None] + torch.arange(height)
    columns = lefts[:, None] + torch.arange(width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    index = torch.arange(count)[:, None, None, None]
    channel = torch.arange(images.shape[1])[None, :, None, None]
    return padded[index, channel, rows[:, None, :, None], columns[:, None, None, :]]
