"""Image folders and torchvision data sets on disk, as three splits."""

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from dqmq_env.data.arrays import as_split
from dqmq_env.data.split import ImageData
from dqmq_env.errors import DataError
from dqmq_env.randomness import numpy_generator


def load_image_folder(
    root: str | Path,
    *,
    side: int = 224,
    resize: int = 256,
    search_images: int = 2_000,
    test_images: int = 4_000,
    train_images: int = 2_000,
    mean: tuple[float, ...] = (0.485, 0.456, 0.406),
    std: tuple[float, ...] = (0.229, 0.224, 0.225),
) -> ImageData:
    """Splits from a folder of ``train/<class>/`` and ``val/<class>/`` (or ``test/<class>/``).

    ``train`` and ``search`` are drawn from the train folder, without overlap; ``test`` from the
    other. Where a folder has fewer images than asked for, it is shared out in the same proportion.

    Args:
        root: the folder.
        side: images are cut to squares of this side, from the centre.
        resize: side to which the shorter edge is brought first.
        search_images: size of ``search``.
        test_images: size of ``test``.
        train_images: size of ``train``.
        mean: per channel; ImageNet's when left out.
        std: per channel; ImageNet's when left out.

    Raises:
        DataError: the folders are missing or hold no images.
    """
    root = Path(root)
    held_out = next((root / name for name in ("val", "test") if (root / name).is_dir()), None)
    if not (root / "train").is_dir() or held_out is None:
        raise DataError(
            f"data: {root} has no folders 'train' and 'val' (or 'test'), each with a folder for "
            "every class"
        )
    picture = v2.Compose(
        [v2.ToImage(), v2.RGB(), v2.Resize(resize, antialias=True), v2.CenterCrop(side)]
    )
    trained, tested = _folder(root / "train", picture), _folder(held_out, picture)
    if trained.classes != tested.classes:
        raise DataError(f"data: the classes of {root / 'train'} and {held_out} differ")
    wanted = train_images + search_images
    scale = min(1.0, len(trained) / wanted)
    order = numpy_generator("image-folder", len(trained)).permutation(len(trained))
    first, second = round(train_images * scale), round(wanted * scale)
    tests = numpy_generator("image-folder-test", len(tested)).permutation(len(tested))
    return ImageData(
        root.name,
        as_split(_subset(trained, order[:first]), "data"),
        as_split(_subset(trained, order[first:second]), "data"),
        as_split(_subset(tested, tests[:test_images]), "data"),
        tuple(trained.classes),
        mean,
        std,
    )


def _folder(path: Path, picture: Any) -> ImageFolder:
    try:
        return ImageFolder(str(path), transform=picture)
    except (FileNotFoundError, OSError) as error:
        raise DataError(f"data: {error}") from error


def _subset(folder: ImageFolder, indices: Any) -> Dataset[Any]:
    subset: Dataset[Any] = Subset(folder, torch.as_tensor(indices).tolist())
    return subset
