import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dqmq_env.errors import DataError
from dqmq_env.quality import (
    CLEAN,
    DESCRIPTOR_NAMES,
    DESCRIPTOR_TABLE,
    SEVERITIES,
    Condition,
    corrupt,
    describe,
    descriptor_operations,
)


def described(images: Tensor, name: str) -> Tensor:
    return describe(images)[:, DESCRIPTOR_NAMES.index(name)]


IMAGES = st.tuples(
    st.integers(1, 3), st.sampled_from([1, 3]), st.integers(8, 20), st.integers(8, 20)
).flatmap(
    lambda shape: (
        hnp.arrays("uint8", shape)
        | hnp.arrays("float32", shape, elements=st.floats(0, 1, width=32))
    )
)


@settings(deadline=None)
@given(IMAGES)
def test_any_image_is_described_within_the_unit_range(array: NDArray[Any]) -> None:
    values = describe(torch.from_numpy(array))
    assert values.shape == (len(array), len(DESCRIPTOR_NAMES))
    assert values.dtype == torch.float32
    assert ((values >= 0) & (values <= 1)).all()


@pytest.mark.parametrize(
    ("name", "corruption", "direction"),
    [
        ("noise", "gaussian_noise", 1),
        ("noise", "shot_noise", 1),
        ("sharpness", "gaussian_blur", -1),
        ("sharpness", "motion_blur", -1),
        ("contrast", "contrast", -1),
        ("luminance", "darkness", -1),
        ("luminance", "overexposure", 1),
        ("entropy", "contrast", -1),
        ("blockiness", "jpeg", 1),
    ],
)
@pytest.mark.parametrize("kind", ["grey_images", "colour_images"])
def test_responds_strictly_to_its_corruption(
    request: pytest.FixtureRequest, kind: str, name: str, corruption: str, direction: int
) -> None:
    images: Tensor = request.getfixturevalue(kind)
    conditions = [CLEAN, *(Condition(corruption, severity) for severity in SEVERITIES)]
    means = torch.stack(
        [described(corrupt(images, c, generator=0), name).mean() for c in conditions]
    )
    assert (direction * means.diff() > 0).all()
    assert corruption in next(e.response for e in DESCRIPTOR_TABLE if e.name == name)


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_constant_image(value: int, channels: int) -> None:
    images = torch.full((2, channels, 16, 16), value, dtype=torch.uint8)
    expected = [0, 0, 0, value / 255, 0, 0.5]
    for row in describe(images).tolist():
        assert row == pytest.approx(expected, abs=1e-5)


def test_half_black_half_white() -> None:
    images = torch.zeros(1, 1, 16, 20)
    images[..., 10:] = 1
    values = dict(zip(DESCRIPTOR_NAMES, describe(images)[0].tolist(), strict=True))
    assert values["contrast"] == pytest.approx(1)
    assert values["luminance"] == pytest.approx(0.5)
    assert values["entropy"] == pytest.approx(1 / 8)


def test_all_levels_once_have_full_entropy() -> None:
    images = torch.randperm(256, generator=torch.Generator().manual_seed(0)).byte()
    assert described(images.view(1, 1, 16, 16), "entropy").item() == pytest.approx(1)


def test_noise_is_estimated() -> None:
    noise = torch.randn(4, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    slope = torch.linspace(-0.2, 0.2, 128)
    for sigma in (0.01, 0.05, 0.1):
        images = 0.5 + slope + slope.view(-1, 1) + sigma * noise
        estimate = described(images.clamp(0, 1), "noise").mean().item()
        assert estimate == pytest.approx(sigma / (sigma + 0.1), rel=0.02)


@pytest.mark.parametrize(
    ("name", "mask", "formula"),
    [
        (
            "noise",
            [[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]],
            lambda r: (s := math.sqrt(math.pi / 2) / 6 * r.abs().mean(dim=(1, 2, 3))) / (s + 0.1),
        ),
        (
            "sharpness",
            [[0.0, 1, 0], [1, -4, 1], [0, 1, 0]],
            lambda r: (v := r.flatten(1).var(dim=1, correction=0)) / (v + 0.05),
        ),
    ],
)
def test_masks_are_those_of_the_sources(
    name: str, mask: list[list[float]], formula: Callable[[Tensor], Tensor]
) -> None:
    images = torch.rand(5, 1, 17, 12, generator=torch.Generator().manual_seed(0))
    response = functional.conv2d(images, torch.tensor(mask).view(1, 1, 3, 3))
    assert torch.allclose(described(images, name), formula(response), atol=1e-5)


def test_blockiness_finds_blocks_of_eight_on_their_grid_alone() -> None:
    levels = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    blocks = levels.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    shifted = blocks.roll((4, 4), dims=(2, 3))
    noise = torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    assert described(blocks, "blockiness").item() > 0.99
    assert described(shifted, "blockiness").item() < 0.05
    assert described(noise, "blockiness").item() == pytest.approx(0.5, abs=0.03)
    assert described(noise[..., :8, :8], "blockiness").item() == pytest.approx(0.5)


def test_colour_is_described_by_its_luma(grey_images: Tensor) -> None:
    in_three_channels = describe(grey_images.expand(-1, 3, -1, -1))
    assert torch.allclose(in_three_channels, describe(grey_images), atol=1e-4)
    primaries = torch.eye(3).view(3, 3, 1, 1).expand(3, 3, 8, 8)
    assert described(primaries, "luminance").tolist() == pytest.approx([0.299, 0.587, 0.114])


def test_images_are_described_by_themselves_whatever_their_type(colour_images: Tensor) -> None:
    images = colour_images[:20]
    together = describe(images)
    one_by_one = torch.cat([describe(image.unsqueeze(0)) for image in images])
    assert torch.allclose(together, one_by_one, atol=1e-6)
    assert torch.equal(together, describe(images.float() / 255))
    assert describe(images[:0]).shape == (0, 6)


def test_refuses_what_is_no_batch_of_images() -> None:
    with pytest.raises(DataError, match="images: got shape"):
        describe(torch.zeros(8, 8))


def test_operations_are_those_of_the_table() -> None:
    assert descriptor_operations(28, 28, 1) == 28 * 28 * (1 + 25) + 768
    assert descriptor_operations(32, 40, 3) == 32 * 40 * (6 + 25) + 768
    assert sum(entry.operations_per_pixel for entry in DESCRIPTOR_TABLE) == 25


@pytest.mark.parametrize(("height", "width", "channels"), [(0, 8, 1), (8, -1, 1), (8, 8, 2)])
def test_operations_refuse_impossible_images(height: int, width: int, channels: int) -> None:
    with pytest.raises(DataError, match="got"):
        descriptor_operations(height, width, channels)
