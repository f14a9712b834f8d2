from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from dqmq_env.data import load_image_folder
from dqmq_env.data.arrays import MOST_IMAGES, as_split
from dqmq_env.data.folder import folder_classes
from dqmq_env.errors import DataError

SIZES: dict[str, Any] = {
    "train_images": 8,
    "search_images": 2,
    "test_images": 5,
    "side": 16,
    "resize": 20,
}


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
    assert (len(data.train), len(data.search), len(data.test)) == (8, 2, 5)
    assert not rows(data.train.images) & rows(data.search.images)
    assert set(data.train.labels.tolist()) == {0, 1}


def test_it_gives_the_same_twice(root: Path) -> None:
    one, two = load_image_folder(root, **SIZES), load_image_folder(root, **SIZES)
    for name in ("train", "search", "test"):
        assert torch.equal(one.splits[name].images, two.splits[name].images)
        assert torch.equal(one.splits[name].labels, two.splits[name].labels)


def test_a_small_folder_gives_all_that_each_split_has(root: Path) -> None:
    data = load_image_folder(root, **(SIZES | {"train_images": 300, "search_images": 100}))
    assert (len(data.train), len(data.search)) == (13, 3)
    assert len(data.test) == 5


def test_a_test_folder_does_instead_of_val(root: Path) -> None:
    (root / "val").rename(root / "test")
    assert len(load_image_folder(root, **SIZES).test) == 5


def test_a_test_split_that_is_not_wanted_is_not_read(root: Path) -> None:
    for path in (root / "val").glob("*/*.png"):
        path.write_bytes(b"no image")
    assert len(load_image_folder(root, **(SIZES | {"test_images": 0})).test) == 0


def test_two_images_make_two_splits(root: Path) -> None:
    for path in (root / "train").glob("*/*.png"):
        if path.stem != "0":
            path.unlink()
    data = load_image_folder(root, **(SIZES | {"train_images": 1, "search_images": 1000}))
    assert (len(data.train), len(data.search)) == (1, 1)
    (root / "train" / "dog" / "0.png").unlink()
    with pytest.raises(DataError, match=r"^data: .*dog"):
        load_image_folder(root, **SIZES)


def test_labels_follow_the_classes_that_are_given(root: Path) -> None:
    by_name = load_image_folder(root, **SIZES)
    (root / "val" / "dog").rename(root / "val" / "wolf")
    data = load_image_folder(root, **SIZES, classes=["dog", "ewe", "cat", "wolf"])
    assert data.classes == ("dog", "ewe", "cat", "wolf")
    assert torch.equal(data.train.labels, 2 - 2 * by_name.train.labels)
    assert torch.equal(data.test.labels, 2 + by_name.test.labels)
    with pytest.raises(DataError, match=r"^classes: .*train has 'cat', which is none of the 2"):
        load_image_folder(root, **SIZES, classes=["dog", "wolf"])


def test_classes_are_known_without_a_look_at_the_images(root: Path) -> None:
    for path in (root / "train").glob("*/*.png"):
        path.unlink()
    assert folder_classes(root) == ("cat", "dog")
    with pytest.raises(DataError, match="no folders 'train' and 'val'"):
        folder_classes(root / "train" / "cat")


def test_a_single_folder_is_divided_in_three(root: Path) -> None:
    inside = load_image_folder(root / "train", **SIZES)
    (root / "val").rename(root / "else")
    data = load_image_folder(root, **SIZES)
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.search), len(data.test)) == (8, 2, 3)
    assert len(rows(torch.cat([own.images for own in data.splits.values()]))) == 13
    for name, own in data.splits.items():
        assert torch.equal(own.images, inside.splits[name].images)
    assert len(load_image_folder(root, **(SIZES | {"test_images": 0})).test) == 0


@pytest.mark.parametrize("divided_in", [2, 3])
def test_the_split_of_an_image_does_not_depend_on_the_numbers(root: Path, divided_in: int) -> None:
    if divided_in == 3:
        (root / "val").rename(root / "else")
    whole = load_image_folder(
        root, **(SIZES | {"train_images": 99, "search_images": 99, "test_images": 99})
    )
    sets = [rows(own.images) for own in whole.splits.values()]
    assert sum(map(len, sets)) == len(set.union(*sets)) == (24 if divided_in == 2 else 16)
    for numbers in ((1, 1, 1), (9, 1, 0), (2, 3, 3)):
        names = ("train_images", "search_images", "test_images")
        some = load_image_folder(root, **(SIZES | dict(zip(names, numbers, strict=True))))
        for name, own in some.splits.items():
            assert torch.equal(own.images, whole.splits[name].images[: len(own)])
        assert tuple(map(len, some.splits.values())) == numbers


def test_images_of_one_shape_may_stay_as_they_are(root: Path) -> None:
    with pytest.raises(DataError, match="one shape; images of a folder are cut to one by resize"):
        load_image_folder(root, **(SIZES | {"side": None, "resize": None}))
    for path in root.glob("*/*/*.png"):
        if path.stem != "0":
            path.unlink()
    sizes = SIZES | {"side": None, "resize": None, "train_images": 1, "search_images": 1}
    assert load_image_folder(root, **sizes).image_shape == (3, 30, 24)
    grey = load_image_folder(root, **sizes, mean=(0.5,), std=(0.2,))
    assert grey.image_shape == (1, 30, 24)
    with pytest.raises(DataError, match=r"^mean: got 2 values, allowed are 1"):
        load_image_folder(root, **sizes, mean=(0.5, 0.5), std=(0.2, 0.2))


def test_folders_that_are_missing_empty_or_differ_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match="no folders 'train' and 'val'"):
        load_image_folder(root / "nowhere")
    (root / "val" / "dog").rename(root / "val" / "wolf")
    with pytest.raises(DataError, match="classes"):
        load_image_folder(root, **SIZES)
    (root / "val" / "wolf").rename(root / "val" / "dog")
    for path in (root / "train" / "cat").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="cat"):
        load_image_folder(root, **SIZES)


def test_an_image_that_cannot_be_read_is_named(root: Path) -> None:
    content = (root / "val" / "dog" / "1.png").read_bytes()
    for broken in (content[: len(content) // 2], b"", b"no image"):
        (root / "val" / "dog" / "1.png").write_bytes(broken)
        with pytest.raises(DataError, match=r"^data: .*1\.png is no image that can be read"):
            load_image_folder(root, **(SIZES | {"test_images": 8}))


def test_of_sixteen_bits_the_upper_eight_are_taken(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (20, 4, 5), np.uint16)
    (tmp_path / "cat").mkdir()
    for number, pixels in enumerate(deep):
        image = Image.fromarray(pixels)
        image.save(tmp_path / "cat" / f"{number}.{('png', 'tiff', 'pgm')[number % 3]}")
    data = load_image_folder(tmp_path, side=None, resize=None, mean=(0.5,), std=(0.2,))
    found = set.union(*(rows(split.images) for split in data.splits.values()))
    assert found == {(pixels >> 8).astype(np.uint8).tobytes() for pixels in deep}


@pytest.mark.parametrize("values", [np.float32([[0.5]]), np.int32([[2**16]]), np.int32([[-1]])])
def test_values_whose_range_is_unknown_are_refused(tmp_path: Path, values: Any) -> None:
    (tmp_path / "cat").mkdir()
    for number in range(3):
        Image.fromarray(values).save(tmp_path / "cat" / f"{number}.tiff")
    with pytest.raises(DataError, match=r"\.tiff is no image that can be read: its values are"):
        load_image_folder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side": 0}, "side: got 0, allowed are integers from 1"),
        ({"resize": 15}, "resize: got 15, allowed are integers from 16"),
        ({"train_images": 0}, "train_images: got 0"),
        ({"search_images": -1}, "search_images: got -1"),
        ({"test_images": 2.5}, "test_images: got 2.5"),
    ],
)
def test_numbers_out_of_range_are_refused(
    root: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        load_image_folder(root, **(SIZES | changes))


class Many(Dataset[tuple[torch.Tensor, int]]):
    """One image more than is kept of a data set by default."""

    def __len__(self) -> int:
        return MOST_IMAGES + 1

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index >= len(self):
            raise IndexError
        return torch.zeros(1, 2, 2, dtype=torch.uint8), index % 2


def test_a_large_data_set_is_kept_whole_where_that_is_asked_for() -> None:
    assert len(as_split(Many(), "train")) == MOST_IMAGES
    assert len(as_split(Many(), "train", most=None)) == MOST_IMAGES + 1


def test_a_folder_is_not_cut_beyond_the_numbers_that_are_given(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[int | None] = []

    def noted(images: Any, argument: str, most: int | None = MOST_IMAGES) -> Any:
        bounds.append(most)
        return as_split(images, argument, most)

    monkeypatch.setattr("dqmq_env.data.folder.as_split", noted)
    load_image_folder(root, **SIZES)
    assert bounds == [None] * 3
