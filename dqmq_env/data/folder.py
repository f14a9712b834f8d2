"""Image folders and torchvision data sets on disk, as three splits."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from dqmq_env.data.arrays import as_split
from dqmq_env.data.split import ImageData, ImageSplit
from dqmq_env.errors import DataError
from dqmq_env.randomness import numpy_generator

_MODES = {1: "L", 3: "RGB"}
_DIVISOR = 5


def load_image_folder(
    root: str | Path,
    *,
    side: int | None = 224,
    resize: int | None = 256,
    search_images: int = 2_000,
    test_images: int = 4_000,
    train_images: int = 2_000,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
) -> ImageData:
    """Splits from a folder with a folder of images for every class.

    Either there are two, ``train/<class>/`` and ``val/<class>/`` (or ``test/<class>/``): then
    ``train`` and ``search`` are drawn from the first, without overlap, and ``test`` from the other.
    Or there is one, ``<class>/`` in the root itself or in ``train``, of which all three are drawn.
    A fifth of a folder that is divided is for ``search``, another for ``test`` where that has no
    folder of its own, the rest for ``train``. Which split an image is in depends on the folder
    alone; the numbers say how many of a split are taken, all where it has fewer. The folder that
    torchvision's ``ImageNet`` has unpacked is of the first form.

    Of grey images of 16 bits the upper 8 are taken, as Pillow does with coloured ones.

    Args:
        root: the folder.
        side: images are cut to squares of this side, from the centre; ``None`` leaves them as they
            are, which must then be all of one shape.
        resize: side to which the shorter edge is brought first; ``None`` leaves it.
        search_images: size of ``search``.
        test_images: size of ``test``; 0 leaves it empty.
        train_images: size of ``train``.
        classes: names of the class folders in the order of their labels, where the folder holds
            only some of them or the order is not that of sorted names.
        mean: per channel; ImageNet's when left out. A single one reads images in grey.
        std: per channel; ImageNet's when left out.

    Raises:
        DataError: the folders are missing or hold no images, an image cannot be read, or a number
            is not allowed.
    """
    _check_numbers(side, resize, train_images, search_images, test_images)
    if len(mean) not in _MODES:
        raise DataError(f"mean: got {len(mean)} values, allowed are 1 (grey) and 3 (colour)")
    parts = _parts(Path(root))
    names = _class_names(parts.fitted) if classes is None else tuple(classes)
    if classes is None and parts.held_out and names != _class_names(parts.held_out):
        raise DataError(f"data: the classes of {parts.fitted} and {parts.held_out} differ")
    picture = _picture(side, resize)
    read = partial(_open, mode=_MODES[len(mean)])
    fitted = held_out = _folder(parts.fitted, names, picture, read)
    searched, tested, trained = _divided(len(fitted), parts)
    if parts.held_out:
        held_out = _folder(parts.held_out, names, picture, read)
        tested = _shuffled("image-folder-test", len(held_out))
    train = _in_memory(fitted, trained[:train_images])
    tested = tested[:test_images]
    return ImageData(
        Path(root).resolve().name,
        train,
        _in_memory(fitted, searched[:search_images]),
        _in_memory(held_out, tested) if tested else train.take(0),
        names,
        tuple(mean),
        tuple(std),
    )


def folder_classes(root: str | Path) -> tuple[str, ...]:
    """Names of the class folders, sorted, without a look at the images.

    Raises:
        DataError: the folders are missing.
    """
    return _class_names(_parts(Path(root)).fitted)


def _in_memory(folder: ImageFolder, places: Sequence[int]) -> ImageSplit:
    return as_split(Subset(folder, places), "data", most=None)


class _Parts(NamedTuple):
    """Folders of class folders: what ``train`` is drawn from, and ``test``, if that is another."""

    fitted: Path
    held_out: Path | None


def _parts(root: Path) -> _Parts:
    held_out = next((root / name for name in ("val", "test") if (root / name).is_dir()), None)
    if (root / "train").is_dir():
        return _Parts(root / "train", held_out)
    if held_out is None and root.is_dir() and _class_names(root):
        return _Parts(root, None)
    raise DataError(
        f"data: {root} has no folders 'train' and 'val' (or 'test'), each with a folder for every "
        "class, nor folders for every class itself"
    )


def _class_names(part: Path) -> tuple[str, ...]:
    """Names of the folders in a folder, sorted."""
    return tuple(sorted(path.name for path in part.iterdir() if path.is_dir()))


def _check_numbers(
    side: int | None, resize: int | None, train_images: int, search_images: int, test_images: int
) -> None:
    for name, value, least in (
        ("side", side, 1),
        ("resize", resize, side or 1),
        ("train_images", train_images, 1),
        ("search_images", search_images, 1),
        ("test_images", test_images, 0),
    ):
        may_be_none = name in ("side", "resize")
        if not (may_be_none and value is None) and (not isinstance(value, int) or value < least):
            raise DataError(f"{name}: got {value!r}, allowed are integers from {least}")


def _divided(count: int, parts: _Parts) -> tuple[list[int], list[int], list[int]]:
    """Places in a folder for ``search``, for ``test`` if it has no other folder, and the rest.

    Raises:
        DataError: there are fewer images than splits.
    """
    least = 2 if parts.held_out else 3
    if count < least:
        raise DataError(f"data: {parts.fitted} has {count} images, allowed are {least} and more")
    order = _shuffled("image-folder", count)
    share = max(1, count // _DIVISOR)
    middle = share if parts.held_out else 2 * share
    return order[:share], order[share:middle], order[middle:]


def _shuffled(name: str, count: int) -> list[int]:
    order: list[int] = numpy_generator(name, count).permutation(count).tolist()
    return order


def _picture(side: int | None, resize: int | None) -> Any:
    """What an opened image goes through."""
    steps: list[Any] = [v2.ToImage()]
    if resize is not None:
        steps.append(v2.Resize(resize, antialias=True))
    if side is not None:
        steps.append(v2.CenterCrop(side))
    return v2.Compose(steps)


def _folder(path: Path, classes: Sequence[str], picture: Any, read: Any) -> ImageFolder:
    """The images of a folder, labelled by the places of their classes among ``classes``."""
    foreign = sorted(set(_class_names(path)) - set(classes))
    if foreign:
        raise DataError(f"classes: {path} has {foreign[0]!r}, which is none of the {len(classes)}")
    own = [classes.index(name) for name in _class_names(path)]
    try:
        return ImageFolder(
            str(path), transform=picture, target_transform=own.__getitem__, loader=read
        )
    except OSError as error:
        raise DataError(f"data: {error}") from error


def _open(path: str, mode: str) -> Any:
    try:
        with Image.open(path) as image:
            return _of_eight_bits(image).convert(mode)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"data: {path} is no image that can be read: {error}") from error


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """The image, by the upper 8 of its 16 bits where it has these: Pillow would cut them off.

    Raises:
        ValueError: its values have more bits, or are floats.
    """
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    if image.mode == "F" or pixels.min() < 0 or pixels.max() >= 2**16:
        raise ValueError("its values are floats or integers of 32 bits, allowed are 8 and 16 bits")
    return Image.fromarray((pixels >> 8).astype(np.uint8))
