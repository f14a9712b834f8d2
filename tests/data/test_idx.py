import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dqmq_env.data.idx import read_idx
from dqmq_env.errors import DataError

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
CONTENT = bytes((0, 0, 8, 3)) + struct.pack(">3I", *IMAGES.shape) + IMAGES.tobytes()

SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize(("name", "packed"), [("images", False), ("images.gz", True)])
def test_reads_packed_and_unpacked(tmp_path: Path, name: str, packed: bool) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(CONTENT) if packed else CONTENT)
    assert np.array_equal(read_idx(path, ndim=3), IMAGES)


@SHARED_FOLDER
@given(st.integers(0, len(CONTENT) - 1))
def test_refuses_truncated_file(tmp_path: Path, length: int) -> None:
    path = tmp_path / "images"
    path.write_bytes(CONTENT[:length])
    with pytest.raises(DataError, match=r"images: "):
        read_idx(path, ndim=3)


@SHARED_FOLDER
@given(st.integers(0, 8 * 16 - 1))
def test_refuses_every_flipped_bit_of_the_header(tmp_path: Path, bit: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[bit // 8] ^= 1 << bit % 8
    path = tmp_path / "images"
    path.write_bytes(damaged)
    with pytest.raises(DataError):
        read_idx(path, ndim=3)


def test_refuses_trailing_bytes_and_other_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(CONTENT + b"\0")
    with pytest.raises(DataError, match="25 values, must hold 24"):
        read_idx(path, ndim=3)
    path.write_bytes(CONTENT)
    with pytest.raises(DataError, match="with 1 dimensions"):
        read_idx(path, ndim=1)


def test_refuses_damaged_gzip_and_missing_file(tmp_path: Path) -> None:
    packed = gzip.compress(CONTENT)
    path = tmp_path / "images.gz"
    for damaged in (packed[:-9], CONTENT, packed[:12] + b"\xff" + packed[13:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="damaged gzip"):
            read_idx(path, ndim=3)
    with pytest.raises(DataError, match="absent: cannot be read"):
        read_idx(tmp_path / "absent", ndim=3)
