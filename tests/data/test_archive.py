import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dqmq_env.data import ImageSplit
from dqmq_env.data.archive import read_archive, write_archive
from dqmq_env.errors import DataError

COUNTS = {"train": 30, "search": 10, "test": 10}


@pytest.fixture(scope="module")
def splits() -> dict[str, ImageSplit]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: ImageSplit(
            torch.randint(256, (count, 3, 8, 9), generator=generator, dtype=torch.uint8),
            torch.randint(10, (count,), generator=generator),
        )
        for name, count in COUNTS.items()
    }


@pytest.fixture(scope="module")
def stem(tmp_path_factory: pytest.TempPathFactory, splits: Mapping[str, ImageSplit]) -> Path:
    stem = tmp_path_factory.mktemp("archive") / "images"
    write_archive(stem, splits, {"source": "made for a test"})
    return stem


def damaged_copy(stem: Path, folder: Path, ending: str, content: bytes) -> Path:
    """`stem` under another name, with other content in one of its two files."""
    copy = folder / "damaged"
    for each in (".xz", ".json"):
        original = Path(f"{stem}{each}").read_bytes()
        Path(f"{copy}{each}").write_bytes(content if each == ending else original)
    return copy


def flip(content: bytes, bit: int) -> bytes:
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def same(left: Mapping[str, ImageSplit], right: Mapping[str, ImageSplit]) -> bool:
    return list(left) == list(right) and all(
        torch.equal(left[name].images, right[name].images)
        and torch.equal(left[name].labels, right[name].labels)
        for name in left
    )


def test_gives_back_what_was_written(stem: Path, splits: Mapping[str, ImageSplit]) -> None:
    assert same(read_archive(stem, COUNTS), splits)
    assert json.loads(Path(f"{stem}.json").read_text())["source"] == "made for a test"


def test_equal_splits_give_equal_bytes(
    stem: Path, splits: Mapping[str, ImageSplit], tmp_path: Path
) -> None:
    write_archive(tmp_path / "again", splits, {"source": "made for a test"})
    for ending in (".xz", ".json"):
        again = (tmp_path / f"again{ending}").read_bytes()
        assert again == Path(f"{stem}{ending}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.json", "again.xz"]


SHARED_FOLDER = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


@SHARED_FOLDER
@given(data=st.data())
def test_refuses_flipped_bit_in_archive(stem: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = Path(f"{stem}.xz").read_bytes()
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    with pytest.raises(DataError, match="SHA-256"):
        read_archive(damaged_copy(stem, tmp_path, ".xz", flip(content, bit)), COUNTS)


@SHARED_FOLDER
@given(data=st.data())
def test_refuses_truncated_files(stem: Path, tmp_path: Path, data: st.DataObject) -> None:
    ending = data.draw(st.sampled_from([".xz", ".json"]))
    content = Path(f"{stem}{ending}").read_bytes().rstrip()
    length = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(DataError):
        read_archive(damaged_copy(stem, tmp_path, ending, content[:length]), COUNTS)


@SHARED_FOLDER
@given(data=st.data())
def test_flipped_bit_in_card_is_refused_or_harmless(
    stem: Path, splits: Mapping[str, ImageSplit], tmp_path: Path, data: st.DataObject
) -> None:
    content = Path(f"{stem}.json").read_bytes()
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    copy = damaged_copy(stem, tmp_path, ".json", flip(content, bit))
    try:
        read = read_archive(copy, COUNTS)
    except DataError:
        return
    assert same(read, splits)


def test_refuses_missing_files_other_splits_and_other_schema(stem: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.json: cannot be read"):
        read_archive(tmp_path / "absent", COUNTS)
    with pytest.raises(DataError, match=r"must be \{'train': 1\}"):
        read_archive(stem, {"train": 1})
    newer = json.loads(Path(f"{stem}.json").read_text()) | {"schema_version": 2}
    with pytest.raises(DataError, match="schema version 1"):
        read_archive(damaged_copy(stem, tmp_path, ".json", json.dumps(newer).encode()), COUNTS)
    (tmp_path / "damaged.xz").unlink()
    (tmp_path / "damaged.json").write_bytes(Path(f"{stem}.json").read_bytes())
    with pytest.raises(DataError, match=r"damaged\.xz: cannot be read"):
        read_archive(tmp_path / "damaged", COUNTS)


def test_refuses_to_write_what_it_could_not_read(tmp_path: Path) -> None:
    small = ImageSplit(torch.zeros(1, 1, 8, 8).byte(), torch.zeros(1).long())
    large = ImageSplit(torch.zeros(1, 1, 9, 9).byte(), torch.zeros(1).long())
    many = ImageSplit(torch.zeros(1, 1, 8, 8).byte(), torch.tensor([256]))
    for splits, message in [
        ({"train": small, "test": large}, "image shapes"),
        ({}, "image shapes"),
        ({"train": many}, "label 256"),
    ]:
        with pytest.raises(DataError, match=message):
            write_archive(tmp_path / "images", splits, {})
    assert list(tmp_path.iterdir()) == []
