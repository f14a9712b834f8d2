from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dqmq_env.data import ImageData, ImageSplit
from dqmq_env.errors import DataError


def make_split(count: int, channels: int = 1, side: int = 8, classes: int = 5) -> ImageSplit:
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1)
    return ImageSplit(
        images.expand(count, channels, side, side).clone(), torch.arange(count) % classes
    )


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 8, 8), torch.zeros(2).long(), "images: got torch.float32"),
        (torch.zeros(2, 8, 8).byte(), torch.zeros(2).long(), r"images: .*\(2, 8, 8\)"),
        (torch.zeros(2, 2, 8, 8).byte(), torch.zeros(2).long(), "1 or 3 channels"),
        (torch.zeros(2, 1, 0, 8).byte(), torch.zeros(2).long(), "at least one pixel"),
        (torch.zeros(2, 1, 8, 8).byte(), torch.zeros(2).int(), "labels: got torch.int32"),
        (torch.zeros(2, 1, 8, 8).byte(), torch.zeros(2, 1).long(), "labels: got"),
        (torch.zeros(2, 1, 8, 8).byte(), torch.zeros(3).long(), r"got 3, must be as many .*\(2\)"),
        (torch.zeros(2, 1, 8, 8).byte(), torch.tensor([0, -1]), "labels: got -1"),
    ],
)
def test_split_refuses_wrong_tensors(images: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageSplit(images, labels)


def test_take_is_the_beginning_and_shares_memory() -> None:
    split = make_split(10)
    taken = split.take(4)
    assert len(split) == 10
    assert len(taken) == 4
    assert taken.labels.tolist() == [0, 1, 2, 3]
    assert taken.images.data_ptr() == split.images.data_ptr()
    assert len(split.take(0)) == 0


@pytest.mark.parametrize("count", [-1, 11])
def test_take_refuses_what_is_not_there(count: int) -> None:
    with pytest.raises(DataError, match=f"n: got {count}, must be 0 to 10"):
        make_split(10).take(count)


@given(st.lists(st.integers(0, 9)))
def test_select_gives_images_and_labels_at_indices(indices: list[int]) -> None:
    selected = make_split(10).select(indices)
    assert selected.images[:, 0, 0, 0].tolist() == indices
    assert selected.labels.tolist() == [index % 5 for index in indices]


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 10], "got 0 to 10, must be 0 to 9"),
        ([-1], "got -1 to -1"),
        (torch.tensor([0.0]), "torch.float32"),
        (torch.tensor([True] * 10), "torch.bool"),
        (torch.tensor([[1]]), r"\(1, 1\)"),
    ],
)
def test_select_refuses_wrong_indices(indices: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_split(10).select(indices)


def make_data(**changes: Any) -> ImageData:
    arguments: dict[str, Any] = {
        "name": "tiny",
        "train": make_split(10),
        "search": make_split(5),
        "test": make_split(5),
        "classes": tuple("abcde"),
        "mean": (0.5,),
        "std": (0.2,),
    }
    return ImageData(**(arguments | changes))


def test_data_knows_its_shape_and_splits() -> None:
    data = make_data()
    assert data.image_shape == (1, 8, 8)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 10,
        "search": 5,
        "test": 5,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": make_split(5, channels=3)}, r"search: got images of shape \(3, 8, 8\)"),
        ({"test": make_split(5, side=9)}, r"test: .* must be \(1, 8, 8\)"),
        ({"classes": tuple("abcd")}, "train: got label 4"),
        ({"mean": (0.5, 0.5)}, "mean, std: got 2 and 1"),
        ({"std": (0.0,)}, "std: got"),
        ({"std": (float("nan"),)}, "std: got"),
    ],
)
def test_data_refuses_parts_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_data(**changes)
