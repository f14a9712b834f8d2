"""Files as those that Fashion-MNIST comes in."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Images (N, H, W) and labels (N,)."""


def write_official(folder: Path, train: Pair, test: Pair, *, packed: bool = False) -> Path:
    """Write the four IDX files of the official splits; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, pair in (("train", train), ("t10k", test)):
        for kind, array in zip(("images-idx3", "labels-idx1"), pair, strict=True):
            content = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            content += array.tobytes()
            path = folder / f"{part}-{kind}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return folder
