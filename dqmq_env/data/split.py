"""Labelled images in memory, and the three splits that every problem is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dqmq_env.errors import DataError


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Images with their labels, in a fixed order.

    Attributes:
        images: uint8 tensor (N, C, H, W), C in {1, 3}, values 0 to 255.
        labels: int64 tensor (N,), class indices from 0.

    Raises:
        DataError: A tensor has the wrong type or shape, a label is negative, or the two lengths
            differ.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise DataError(
                f"images: got {_form(self.images)}, must be torch.uint8 of shape (N, C, H, W)"
            )
        if self.images.shape[1] not in (1, 3) or 0 in self.images.shape[2:]:
            raise DataError(
                f"images: got shape {tuple(self.images.shape)}, must have 1 or 3 channels and at "
                "least one pixel"
            )
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            raise DataError(f"labels: got {_form(self.labels)}, must be torch.int64 of shape (N,)")
        if len(self.labels) != len(self.images):
            raise DataError(
                f"labels: got {len(self.labels)}, must be as many as images ({len(self.images)})"
            )
        if len(self.labels) and int(self.labels.min()) < 0:
            raise DataError(f"labels: got {int(self.labels.min())}, must be 0 or greater")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, n: int) -> "ImageSplit":
        """The first `n` images, sharing memory with this split.

        Where a split is stored in a class-balanced order (all of Fashion-MNIST here), so is the
        result: every prefix whose length is a multiple of the number of classes is balanced.

        Args:
            n: 0 to the length of the split.

        Raises:
            DataError: `n` is outside that range.
        """
        if not 0 <= n <= len(self):
            raise DataError(f"n: got {n}, must be 0 to {len(self)}")
        return ImageSplit(self.images[:n], self.labels[:n])

    def select(self, indices: Tensor | Sequence[int]) -> "ImageSplit":
        """A copy of the images at `indices`, in that order; repetition is allowed.

        Args:
            indices: Integers from 0 to the length of the split less one.

        Raises:
            DataError: An index is outside that range or not an integer.
        """
        index = torch.as_tensor(indices, device=self.labels.device)
        if index.numel() == 0:
            return ImageSplit(self.images[:0], self.labels[:0])
        if index.ndim != 1 or index.dtype.is_floating_point or index.dtype == torch.bool:
            raise DataError(f"indices: got {_form(index)}, must be integers of shape (n,)")
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= len(self):
            raise DataError(f"indices: got {low} to {high}, must be 0 to {len(self) - 1}")
        return ImageSplit(self.images[index.long()], self.labels[index.long()])


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set as every problem sees it.

    Attributes:
        name: Short name for reports, such as `fashion-mnist`.
        train: What weights are fitted on.
        search: What rewards are measured on; no image of it is in `train`.
        test: What only the final report touches.
        classes: Names of the classes; labels index into them.
        mean: Mean per channel on the [0, 1] scale, for normalising a network's input.
        std: Standard deviation per channel on the [0, 1] scale, greater than 0.

    Raises:
        DataError: The splits differ in image shape, a label has no class, or `mean` and `std` do
            not fit the channels.
    """

    name: str
    train: ImageSplit
    search: ImageSplit
    test: ImageSplit
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, split in self.splits.items():
            shape = tuple(split.images.shape[1:])
            if shape != self.image_shape:
                raise DataError(
                    f"{name}: got images of shape {shape}, must be {self.image_shape} as in train"
                )
            if len(split) and int(split.labels.max()) >= len(self.classes):
                raise DataError(
                    f"{name}: got label {int(split.labels.max())}, must be less than the number "
                    f"of classes ({len(self.classes)})"
                )
        channels = self.image_shape[0]
        if len(self.mean) != channels or len(self.std) != channels:
            raise DataError(
                f"mean, std: got {len(self.mean)} and {len(self.std)} values, must be one for "
                f"each channel ({channels})"
            )
        if not all(value > 0 for value in self.std):
            raise DataError(f"std: got {self.std}, must be greater than 0")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    @property
    def splits(self) -> dict[str, ImageSplit]:
        """The three splits by name, in the order train, search, test."""
        return {"train": self.train, "search": self.search, "test": self.test}


def _form(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)}"
