"""What tests of experiments share."""

import struct
from pathlib import Path

import pytest
import torch

from dqmq_env.data import ImageSplit, load_fashion_mnist


@pytest.fixture(scope="session")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as that of Fashion-MNIST, with images enough to search on and 250 to be judged on.

    Studies that judge on the 4,000 embedded images do little else.
    """
    folder = tmp_path_factory.mktemp("few-images")
    data = load_fashion_mnist()
    known = ImageSplit(
        torch.cat([data.train.images, data.search.images])[-7600:],
        torch.cat([data.train.labels, data.search.labels])[-7600:],
    )
    for name, split in (("train", known), ("t10k", data.test.take(250))):
        count, _, height, width = split.images.shape
        header = struct.pack(">IIII", 2051, count, height, width)
        pixels = split.images.numpy().tobytes()
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + pixels)
        labels = split.labels.to(torch.uint8).numpy().tobytes()
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels)
    return folder
