from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dqmq_env.data import load_image_folder
from dqmq_env.errors import DataError

SIZES = {"train_images": 8, "search_images": 4, "test_images": 5, "side": 16, "resize": 20}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 4)):
        for number, name in enumerate(("cat", "dog")):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                shape = (24 + index, 30, 3) if index % 2 else (30, 24)
                pixels = rng.integers(0, 256, shape, np.uint8)
                pixels.flat[0] = number
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_splits_are_cut_to_size_and_do_not_overlap(root: Path) -> None:
    data = load_image_folder(root, **SIZES)
    assert data.classes == ("cat", "dog")
    assert data.image_shape == (3, 16, 16)
    assert (len(data.train), len(data.search), len(data.test)) == (8, 4, 5)
    assert not rows(data.train.images) & rows(data.search.images)
    assert set(data.train.labels.tolist()) == {0, 1}


def test_it_gives_the_same_twice(root: Path) -> None:
    one, two = load_image_folder(root, **SIZES), load_image_folder(root, **SIZES)
    for name in ("train", "search", "test"):
        assert torch.equal(one.splits[name].images, two.splits[name].images)
        assert torch.equal(one.splits[name].labels, two.splits[name].labels)


def test_a_small_folder_is_shared_out_in_proportion(root: Path) -> None:
    data = load_image_folder(root, **(SIZES | {"train_images": 300, "search_images": 100}))
    assert (len(data.train), len(data.search)) == (12, 4)
    assert len(data.test) == 5


def test_a_test_folder_does_instead_of_val(root: Path) -> None:
    (root / "val").rename(root / "test")
    assert len(load_image_folder(root, **SIZES).test) == 5


def test_folders_that_are_missing_or_differ_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folders 'train' and 'val'"):
        load_image_folder(tmp_path / "nowhere")
    (root / "val" / "dog").rename(root / "val" / "wolf")
    with pytest.raises(DataError, match="classes"):
        load_image_folder(root, **SIZES)
    for path in (root / "train" / "cat").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="cat"):
        load_image_folder(root, **SIZES)
