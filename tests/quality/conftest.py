import pytest
import torch
from torch import Tensor

from dqmq_env.data import load_fashion_mnist


@pytest.fixture(scope="session")
def grey_images() -> Tensor:
    """512 embedded test images, uint8 (512, 1, 28, 28)."""
    return load_fashion_mnist().test.take(512).images


@pytest.fixture(scope="session")
def colour_images(grey_images: Tensor) -> Tensor:
    """The same in one random tint each on a random grey, uint8 (512, 3, 28, 28)."""
    generator = torch.Generator().manual_seed(0)
    tint = 0.4 + 0.6 * torch.rand(512, 3, 1, 1, generator=generator)
    ground = 0.5 * (1 - tint) * torch.rand(512, 1, 1, 1, generator=generator)
    return (grey_images * tint + 255 * ground).clamp(0, 255).round().byte()
