"""Image folders and torchvision data sets on disk, as three splits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch.utils.data import Dataset, Subset
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader
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
    classes: Sequence[str] | None = None,
    mean: tuple[float, ...] = (0.485, 0.456, 0.406),
    std: tuple[float, ...] = (0.229, 0.224, 0.225),
) -> ImageData:
    """Splits from a folder of ``train/<class>/`` and ``val/<class>/`` (or ``test/<class>/``).

    ``train`` and ``search`` are drawn from the train folder, without overlap; ``test`` from the
    other. Where a folder has fewer images than asked for, it is shared out in the same proportion.
    The folder that torchvision's ``ImageNet`` has unpacked is of this form.

    Args:
        root: the folder.
        side: images are cut to squares of this side, from the centre.
        resize: side to which the shorter edge is brought first.
        search_images: size of ``search``.
        test_images: size of ``test``; 0 leaves it empty.
        train_images: size of ``train``.
        classes: names of the class folders in the order of their labels, where the folder holds
            only some of them or the order is not that of sorted names.
        mean: per channel; ImageNet's when left out.
        std: per channel; ImageNet's when left out.

    Raises:
        DataError: the folders are missing or hold no images, an image cannot be read, or a number
            is not allowed.
    """
    for name, value, least in (
        ("side", side, 1),
        ("resize", resize, side),
        ("train_images", train_images, 1),
        ("search_images", search_images, 1),
        ("test_images", test_images, 0),
    ):
        if not isinstance(value, int) or value < least:
            raise DataError(f"{name}: got {value!r}, allowed are integers from {least}")
    train, held_out = _parts(Path(root))
    if classes is None and _class_names(train) != _class_names(held_out):
        raise DataError(f"data: the classes of {train} and {held_out} differ")
    names = _class_names(train) if classes is None else tuple(classes)
    picture = v2.Compose([v2.ToImage(), v2.Resize(resize, antialias=True), v2.CenterCrop(side)])
    fitted, tested = (_folder(part, names, picture) for part in (train, held_out))
    if len(fitted) < 2:
        raise DataError(f"data: {train} has one image, allowed are 2 and more")
    wanted = train_images + search_images
    scale = min(1.0, len(fitted) / wanted)
    order = numpy_generator("image-folder", len(fitted)).permutation(len(fitted))
    end = max(2, round(wanted * scale))
    middle = min(max(1, round(train_images * scale)), end - 1)
    tests = numpy_generator("image-folder-test", len(tested)).permutation(len(tested))
    split = as_split(_subset(fitted, order[:middle]), "data")
    return ImageData(
        Path(root).resolve().name,
        split,
        as_split(_subset(fitted, order[middle:end]), "data"),
        as_split(_subset(tested, tests[:test_images]), "data") if test_images else split.take(0),
        names,
        mean,
        std,
    )


def folder_classes(root: str | Path) -> tuple[str, ...]:
    """Names of the class folders of ``root/train``, sorted, without a look at the images.

    Raises:
        DataError: the folders are missing.
    """
    return _class_names(_parts(Path(root))[0])


def _class_names(part: Path) -> tuple[str, ...]:
    """Names of the folders in a folder, sorted."""
    return tuple(sorted(path.name for path in part.iterdir() if path.is_dir()))


def _parts(root: Path) -> tuple[Path, Path]:
    held_out = next((root / name for name in ("val", "test") if (root / name).is_dir()), None)
    if not (root / "train").is_dir() or held_out is None:
        raise DataError(
            f"data: {root} has no folders 'train' and 'val' (or 'test'), each with a folder for "
            "every class"
        )
    return root / "train", held_out


def _folder(path: Path, classes: Sequence[str], picture: Any) -> ImageFolder:
    """The images of a folder, labelled by the places of their classes among ``classes``."""
    foreign = sorted(set(_class_names(path)) - set(classes))
    if foreign:
        raise DataError(f"classes: {path} has {foreign[0]!r}, which is none of the {len(classes)}")
    own = [classes.index(name) for name in _class_names(path)]
    try:
        return ImageFolder(
            str(path), transform=picture, target_transform=own.__getitem__, loader=_open
        )
    except OSError as error:
        raise DataError(f"data: {error}") from error


def _open(path: str) -> Any:
    try:
        return default_loader(path)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"data: {path} is no image that can be read: {error}") from error


def _subset(folder: ImageFolder, indices: NDArray[Any]) -> Dataset[Any]:
    subset: Dataset[Any] = Subset(folder, indices.tolist())
    return subset
