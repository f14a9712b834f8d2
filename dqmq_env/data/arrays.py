"""Images that people bring: arrays, tensors or data sets, as splits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as transforms

from dqmq_env.data.split import ImageData, ImageSplit
from dqmq_env.errors import DataError
from dqmq_env.randomness import numpy_generator

Images = ImageSplit | tuple[Any, Any] | Dataset[Any]
"""A split, a pair (images, labels), or a data set of such pairs for single images."""

MOST_IMAGES = 20_000
"""Of a larger data set, a random subset of this size is kept in memory."""


def as_split(images: Images, argument: str, most: int | None = MOST_IMAGES) -> ImageSplit:
    """A split of uint8 images from what a user brings.

    Args:
        images: an :class:`ImageSplit`; a pair of images (N, C, H, W), uint8 or float in [0, 1], and
            integer labels (N,), as tensors or NumPy arrays; or a ``Dataset`` that gives pairs of a
            picture (PIL, or a tensor as before without N) and a label. Float images are rounded to
            8 bits. Of a data set with more than ``most`` images a fixed random subset is taken.
        argument: name of the argument, for messages.
        most: images that are kept of a data set; ``None`` keeps all.

    Raises:
        DataError: it is none of these, or values are NaN or outside their range.
    """
    if isinstance(images, ImageSplit):
        return images
    if isinstance(images, Dataset):
        return _from_dataset(images, argument, most)
    if not isinstance(images, tuple | list) or len(images) != 2:
        raise DataError(
            f"{argument}: got {type(images).__name__}, allowed are (images, labels), a Dataset or "
            "an ImageSplit"
        )
    pixels, labels = (_tensor(part, argument) for part in images)
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise DataError(f"{argument}: got labels of {labels.dtype}, allowed are integers")
    try:
        return ImageSplit(_to_uint8(pixels, argument), labels.to(torch.int64))
    except DataError as error:
        raise DataError(f"{argument}: {error}") from error


def _from_dataset(dataset: Dataset[Any], argument: str, most: int | None) -> ImageSplit:
    count = len(dataset)  # type: ignore[arg-type]
    chosen = np.arange(count)
    if most is not None and count > most:
        chosen = np.sort(numpy_generator("subset", count).permutation(count)[:most])
    pixels, labels = [], []
    for index in chosen.tolist():
        picture, label = dataset[index]
        one = picture if isinstance(picture, Tensor) else transforms.pil_to_tensor(picture)
        pixels.append(_to_uint8(one[None], argument)[0])
        labels.append(int(label))
    shapes = {tuple(one.shape) for one in pixels}
    if len(shapes) != 1:
        raise DataError(
            f"{argument}: got images of shapes {sorted(shapes)[:3]}, allowed is one shape; images "
            "of a folder are cut to one by resize and side"
        )
    return ImageSplit(torch.stack(pixels), torch.tensor(labels))


def _tensor(value: Any, argument: str) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{argument}: got {type(value).__name__}, which is no array") from error


def _to_uint8(images: Tensor, argument: str) -> Tensor:
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise DataError(f"{argument}: got images of {images.dtype}, allowed are uint8 and float")
    low, high = (float(bound) for bound in torch.aminmax(images))
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"{argument}: got values from {low:g} to {high:g}, allowed are 0 to 1 (images before "
            "normalisation: mean and std are given beside them)"
        )
    return (images * 255).round().to(torch.uint8)


def make_image_data(
    name: str,
    train: Images,
    search: Images,
    test: Images | None,
    mean: Sequence[float],
    std: Sequence[float],
    classes: Sequence[str],
) -> ImageData:
    """The data set of a problem from what a user brings; see :func:`as_split`.

    Args:
        name: for reports.
        train: what weights are fitted and quantisers calibrated on.
        search: what rewards are measured on; no image of it should be in ``train``.
        test: what only the final report touches; ``None`` leaves it empty.
        mean: per channel, on the [0, 1] scale.
        std: per channel, on the [0, 1] scale.
        classes: names of the classes.

    Raises:
        DataError: something does not fit.
    """
    fitted, searched = as_split(train, "train"), as_split(search, "search")
    tested = searched.take(0) if test is None else as_split(test, "test")
    return ImageData(name, fitted, searched, tested, tuple(classes), tuple(mean), tuple(std))
