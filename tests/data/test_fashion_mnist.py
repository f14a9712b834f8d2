import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray

from dqmq_env.data import ImageData, ImageSplit, embed_fashion_mnist, load_fashion_mnist
from dqmq_env.data import fashion_mnist as module
from dqmq_env.data.archive import read_archive
from dqmq_env.errors import DataError
from tests.official_files import write_official


@pytest.fixture(scope="module")
def embedded() -> ImageData:
    return load_fashion_mnist()


def digests(split: ImageSplit) -> set[bytes]:
    return {hashlib.sha256(image.numpy().tobytes()).digest() for image in split.images}


def equal(left: ImageSplit, right: ImageSplit) -> bool:
    return torch.equal(left.images, right.images) and torch.equal(left.labels, right.labels)


def test_embedded_data_has_the_promised_form(embedded: ImageData) -> None:
    counts = {name: len(split) for name, split in embedded.splits.items()}
    assert counts == {"train": 10_000, "search": 2_000, "test": 4_000}
    assert embedded.image_shape == (1, 28, 28)
    assert len(embedded.classes) == 10
    pixels = embedded.train.images.float() / 255
    assert pixels.mean().item() == pytest.approx(embedded.mean[0], abs=0.005)
    assert pixels.std().item() == pytest.approx(embedded.std[0], abs=0.005)


@pytest.mark.parametrize("name", ["train", "search", "test"])
def test_every_prefix_of_tens_is_balanced(embedded: ImageData, name: str) -> None:
    labels = embedded.splits[name].labels
    assert torch.equal(labels, torch.arange(len(labels)) % 10)


def test_no_image_is_in_two_splits_or_twice_in_one(embedded: ImageData) -> None:
    train, search, test = (digests(split) for split in embedded.splits.values())
    assert (len(train), len(search), len(test)) == (10_000, 2_000, 4_000)
    assert not train & search
    assert not train & test
    assert not search & test


def test_writing_into_a_result_does_not_reach_later_calls(embedded: ImageData) -> None:
    load_fashion_mnist().train.images.zero_()
    assert equal(load_fashion_mnist().train, embedded.train)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_damaged_embedded_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    for ending in (".xz", ".json"):
        shutil.copy(f"{module.EMBEDDED_STEM}{ending}", tmp_path)
    path = tmp_path / f"{module.EMBEDDED_STEM.name}.xz"
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "truncated":
        path.write_bytes(content[:-1])
    monkeypatch.setattr(module, "EMBEDDED_STEM", tmp_path / module.EMBEDDED_STEM.name)
    with pytest.raises(DataError, match=r"fashion_mnist_subset\.xz: "):
        load_fashion_mnist()


SIDE = 9


def official(count: int, first: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images that each hold their own number, from `first`, in two pixels; labels in no order."""
    numbers = np.arange(first, first + count)
    images = np.zeros((count, SIDE, SIDE), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = numbers // 256, numbers % 256
    return images, (numbers * 7 // 3 % 10).astype(np.uint8)


def numbers(split: ImageSplit) -> list[int]:
    corner = split.images[:, 0, 0, :2].long()
    return (corner[:, 0] * 256 + corner[:, 1]).tolist()


def write_numbered(folder: Path, *, packed: bool) -> None:
    write_official(folder, official(600, first=0), official(100, first=1000), packed=packed)


@pytest.mark.parametrize("place", ["", "FashionMNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_full_data_from_a_folder(tmp_path: Path, place: str, packed: bool) -> None:
    write_numbered(tmp_path / place, packed=packed)
    data = load_fashion_mnist(str(tmp_path))
    assert len(data.search) == 20
    assert sorted(numbers(data.train) + numbers(data.search)) == list(range(600))
    assert sorted(numbers(data.test)) == list(range(1000, 1100))
    for split in data.splits.values():
        assert split.labels.tolist() == [number * 7 // 3 % 10 for number in numbers(split)]
    assert data.search.labels.tolist() == list(range(10)) * 2


def test_split_depends_on_labels_alone(tmp_path: Path) -> None:
    images, labels = official(600, first=0)
    test = official(100, first=1000)
    first = module.split_official(images, labels, *test)
    second = module.split_official(255 - images, labels, *test)
    assert torch.equal(255 - first.train.images, second.train.images)
    assert torch.equal(255 - first.search.images, second.search.images)


def test_refuses_missing_files_and_unequal_numbers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="root: found no train-images-idx3-ubyte"):
        load_fashion_mnist(tmp_path)
    write_numbered(tmp_path, packed=False)
    shutil.copy(tmp_path / "t10k-labels-idx1-ubyte", tmp_path / "train-labels-idx1-ubyte")
    with pytest.raises(DataError, match="train split: got 600 images, 100 labels"):
        load_fashion_mnist(tmp_path)


def test_download_goes_through_torchvision_only_when_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def fake(root: str, **options: Any) -> None:
        assert options == {"download": True}
        calls.append(root)
        write_numbered(Path(root) / "FashionMNIST" / "raw", packed=False)

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fake)
    first = load_fashion_mnist(tmp_path, download=True)
    second = load_fashion_mnist(tmp_path, download=True)
    assert calls == [str(tmp_path)]
    assert equal(first.train, second.train)


def test_failed_download_and_download_to_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(root: str, **options: Any) -> None:
        raise RuntimeError("no mirror answers")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fail)
    with pytest.raises(DataError, match="no mirror answers"):
        load_fashion_mnist(tmp_path, download=True)
    with pytest.raises(DataError, match="download: got True without root"):
        load_fashion_mnist(download=True)


def test_embedding_takes_the_beginning_of_each_split(tmp_path: Path) -> None:
    write_numbered(tmp_path / "source", packed=True)
    counts = {"train": 100, "search": 20, "test": 40}
    embed_fashion_mnist.embed(tmp_path / "source", tmp_path / "subset", counts)
    data = load_fashion_mnist(tmp_path / "source")
    for name, split in read_archive(tmp_path / "subset", counts).items():
        assert equal(split, data.splits[name].take(counts[name]))


def test_embedding_from_an_empty_folder_exits_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["embed", "--source", str(tmp_path), "--output", str(tmp_path / "subset")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as exit_info:
        embed_fashion_mnist.main()
    assert exit_info.value.code == 2
    assert "root: found no train-images-idx3-ubyte" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
