"""Reader of the IDX format, in which Fashion-MNIST is published.

Format (https://yann.lecun.com/exdb/mnist): two zero bytes, one byte for the type (8 is uint8), one
for the number of dimensions, each dimension as a big-endian 32-bit integer, then the values.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dqmq_env.errors import DataError

_UINT8 = 8


def read_idx(path: str | Path, ndim: int) -> NDArray[np.uint8]:
    """Read an IDX file of uint8 values, unpacked or, where the name ends in `.gz`, packed by gzip.

    Args:
        path: The file.
        ndim: Number of dimensions that it must have, 3 for images and 1 for labels.

    Returns:
        Read-only array of the stored shape.

    Raises:
        DataError: The file is missing, is no IDX file of uint8 values with `ndim` dimensions, or
            is longer or shorter than its header says.
    """
    path = Path(path)
    content = _read_bytes(path)
    header = 4 + 4 * ndim
    if len(content) < header or content[:4] != bytes((0, 0, _UINT8, ndim)):
        raise DataError(f"{path}: not an IDX file of uint8 values with {ndim} dimensions")
    shape = struct.unpack(f">{ndim}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path}: holds {len(content) - header} values, must hold {math.prod(shape)} for "
            f"shape {shape}; the file is damaged"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error})") from error
