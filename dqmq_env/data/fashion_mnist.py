"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747): 28x28 grey images, 10 classes.

MIT licence, Copyright (c) 2017 Zalando SE, https://tech.zalando.com. A balanced subset ships with
the package; the whole is read from the original files.
"""

from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from dqmq_env.data.archive import read_archive
from dqmq_env.data.idx import read_idx
from dqmq_env.data.ordering import balanced_order
from dqmq_env.data.split import ImageData, ImageSplit
from dqmq_env.errors import DataError

NAME: Final = "fashion-mnist"
CLASSES: Final = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# Over all pixels of the 60,000 official training images, on the [0, 1] scale.
MEAN: Final = (0.2860406,)
STD: Final = (0.3530242,)

EMBEDDED_STEM: Final = Path(__file__).parent / "files" / "fashion_mnist_subset"
EMBEDDED_COUNTS: Final = MappingProxyType({"train": 10_000, "search": 2_000, "test": 4_000})

# One in this many official training images is set aside for `search`: 2,000 of 60,000.
_SEARCH_SHARE: Final = 30
_TRAIN_SEED: Final = 20230204
_TEST_SEED: Final = 20230453

# What `split_official` takes, in its order: names of the files and their dimensions.
_FILES: Final = MappingProxyType(
    {
        "train-images-idx3-ubyte": 3,
        "train-labels-idx1-ubyte": 1,
        "t10k-images-idx3-ubyte": 3,
        "t10k-labels-idx1-ubyte": 1,
    }
)


def load_fashion_mnist(root: str | Path | None = None, *, download: bool = False) -> ImageData:
    """Load Fashion-MNIST in the three splits of the project.

    Without `root`, the embedded subset: 10,000 train, 2,000 search and 4,000 test images. With
    `root`, everything: 58,000, 2,000 and 10,000. The search images are the same 2,000 in both;
    they come from the official training images, are never in `train`, and `test` comes from the
    official test images alone. Each embedded split is the beginning of the full one, and each is
    stored in a balanced order: every prefix of a multiple of 10 images holds all classes equally.

    Args:
        root: Folder with the four original IDX files, packed (`.gz`) or not, either in it or in
            its `FashionMNIST/raw`, where torchvision puts them.
        download: Let torchvision download the files into `root` where they are not there yet.

    Returns:
        The data; its tensors belong to the caller, nothing is shared with later calls.

    Raises:
        DataError: A file is missing or damaged, or `download` was asked for without `root`.
    """
    if root is None:
        if download:
            raise DataError("download: got True without root, must come with a folder")
        return _as_data(_copy(_embedded(EMBEDDED_STEM)))
    folder = Path(root)
    if download and not all(_find(folder, name) for name in _FILES):
        _download(folder)
    return split_official(*(_read(folder, name, ndim) for name, ndim in _FILES.items()))


def split_official(
    train_images: NDArray[np.uint8],
    train_labels: NDArray[np.uint8],
    test_images: NDArray[np.uint8],
    test_labels: NDArray[np.uint8],
) -> ImageData:
    """Turn the two official splits into `train`, `search` and `test`: the rule for all of them.

    The official training images are put in `balanced_order`; the first thirtieth of it is
    `search`, the rest is `train`. The official test images in `balanced_order` are `test`.

    Args:
        train_images: (N, H, W), official training images.
        train_labels: (N,), their labels.
        test_images: (M, H, W), official test images.
        test_labels: (M,), their labels.

    Returns:
        The data, copied.

    Raises:
        DataError: Images and labels differ in number, or the shapes do not fit.
    """
    fitted = _ordered("train", train_images, train_labels, _TRAIN_SEED)
    count = len(fitted) // _SEARCH_SHARE
    return _as_data(
        {
            "train": ImageSplit(fitted.images[count:], fitted.labels[count:]),
            "search": fitted.take(count),
            "test": _ordered("test", test_images, test_labels, _TEST_SEED),
        }
    )


def _ordered(
    name: str, images: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int
) -> ImageSplit:
    if len(images) != len(labels):
        raise DataError(f"official {name} split: got {len(images)} images, {len(labels)} labels")
    order = balanced_order(labels, seed)
    return ImageSplit(
        torch.from_numpy(images[order]).unsqueeze(1),
        torch.from_numpy(labels[order].astype(np.int64)),
    )


def _as_data(splits: dict[str, ImageSplit]) -> ImageData:
    return ImageData(name=NAME, **splits, classes=CLASSES, mean=MEAN, std=STD)


@lru_cache(maxsize=1)
def _embedded(stem: Path) -> dict[str, ImageSplit]:
    return read_archive(stem, EMBEDDED_COUNTS)


def _copy(splits: dict[str, ImageSplit]) -> dict[str, ImageSplit]:
    return {
        name: ImageSplit(split.images.clone(), split.labels.clone())
        for name, split in splits.items()
    }


def _find(folder: Path, name: str) -> Path | None:
    places = (folder, folder / "FashionMNIST" / "raw")
    candidates = [place / (name + ending) for place in places for ending in ("", ".gz")]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _read(folder: Path, name: str, ndim: int) -> NDArray[np.uint8]:
    path = _find(folder, name)
    if path is None:
        raise DataError(
            f"root: found no {name} or {name}.gz in {folder} or its FashionMNIST/raw, must hold "
            "the four original files (download=True fetches them)"
        )
    return read_idx(path, ndim)


def _download(folder: Path) -> None:
    # Imported here because torchvision takes a second to import and only a download needs it.
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"download: Fashion-MNIST cannot be fetched into {folder}: {error}"
        ) from error
