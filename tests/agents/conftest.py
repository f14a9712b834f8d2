"""What tests of experiments share."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dqmq_env.data import ImageSplit, load_fashion_mnist
from tests.official_files import Pair, write_official


@pytest.fixture(scope="session")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as that of Fashion-MNIST, with images enough to search on and 250 to be judged on.

    Studies that judge on the 4,000 embedded images do little else.
    """
    data = load_fashion_mnist()
    known = ImageSplit(
        torch.cat([data.train.images, data.search.images])[-7600:],
        torch.cat([data.train.labels, data.search.labels])[-7600:],
    )
    folder = tmp_path_factory.mktemp("few-images")
    return write_official(folder, _arrays(known), _arrays(data.test.take(250)))


def _arrays(split: ImageSplit) -> Pair:
    return split.images[:, 0].numpy(), split.labels.numpy().astype(np.uint8)
