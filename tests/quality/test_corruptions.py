import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dqmq_env.errors import ConditionError, DataError
from dqmq_env.quality import CLEAN, CORRUPTION_NAMES, SEVERITIES, Condition, corrupt, corrupt_each
from dqmq_env.quality.corruptions import CONSTANTS

RANDOM = {"gaussian_noise", "shot_noise", "motion_blur", "brightness"}
CONDITIONS = st.just(CLEAN) | st.builds(
    Condition, st.sampled_from(CORRUPTION_NAMES), st.sampled_from(SEVERITIES)
)


@st.composite
def batches(draw: st.DrawFn) -> Tensor:
    """Images of any allowed shape and type; some are constant."""
    shape = (
        draw(st.integers(0, 3)),
        draw(st.sampled_from([1, 3])),
        draw(st.integers(8, 40)),
        draw(st.integers(8, 40)),
    )
    values = torch.rand(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    if draw(st.booleans()):
        values = values.round().amax(dim=(1, 2, 3), keepdim=True).expand(shape).contiguous()
    dtype = draw(st.sampled_from([torch.uint8, torch.float16, torch.float32, torch.float64]))
    return values.mul(255).byte() if dtype == torch.uint8 else values.to(dtype)


@settings(deadline=None)
@given(batches(), CONDITIONS, st.integers(0, 2**60))
def test_keeps_form_and_range_and_is_fixed_by_the_seed(
    images: Tensor, condition: Condition, seed: int
) -> None:
    before = images.clone()
    result = corrupt(images, condition, generator=seed)
    assert torch.equal(images, before)
    assert (result.shape, result.dtype, result.device) == (
        images.shape,
        images.dtype,
        images.device,
    )
    if len(images):
        assert 0 <= result.min() <= result.max() <= (255 if images.dtype == torch.uint8 else 1)
        assert result.data_ptr() != images.data_ptr()
    assert torch.equal(result, corrupt(images, str(condition), generator=seed))


@pytest.mark.parametrize("name", CORRUPTION_NAMES)
def test_effect_grows_with_severity(grey_images: Tensor, colour_images: Tensor, name: str) -> None:
    for images in (grey_images[:256], colour_images[:256]):
        distances = [0.0]
        for severity in SEVERITIES:
            result = corrupt(images, Condition(name, severity), generator=0)
            distances.append((result.float() - images.float()).abs().mean().item())
        assert all(low < high for low, high in pairwise(distances))


@pytest.mark.parametrize("name", CORRUPTION_NAMES)
def test_bytes_are_the_rounded_floats(colour_images: Tensor, name: str) -> None:
    condition = Condition(name, 3)
    exact = corrupt(colour_images[:16].float() / 255, condition, generator=1)
    result = corrupt(colour_images[:16], condition, generator=1)
    assert torch.equal(result, exact.mul(255).round().byte())


@pytest.mark.parametrize("name", CORRUPTION_NAMES)
def test_generator_moves_on_where_chance_is_involved(grey_images: Tensor, name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (
        corrupt(grey_images[:16], Condition(name, 3), generator=generator) for _ in range(2)
    )
    assert torch.equal(first, second) == (name not in RANDOM)


def test_clean_is_a_copy(grey_images: Tensor) -> None:
    result = corrupt(grey_images, CLEAN, generator=0)
    assert torch.equal(result, grey_images)
    assert result.data_ptr() != grey_images.data_ptr()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_noise_has_its_standard_deviation(severity: int) -> None:
    images = torch.full((8, 3, 64, 64), 0.5)
    sigma = CONSTANTS["gaussian_noise"][severity - 1]
    noise = corrupt(images, Condition("gaussian_noise", severity), generator=0) - images
    # What is cut off at 0 and 1 is less than a quartile, so that quartiles are those of a normal.
    low, high = torch.quantile(noise[:4].flatten(), torch.tensor([0.25, 0.75]))
    assert (high - low).item() / 1.349 == pytest.approx(sigma, rel=0.02)


def test_shot_noise_has_the_variance_of_photons() -> None:
    images = torch.full((8, 1, 64, 64), 0.25)
    result = corrupt(images, "shot_noise/1", generator=0)
    assert result.mean().item() == pytest.approx(0.25, rel=0.01)
    assert result.var().item() == pytest.approx(0.25 / 60, rel=0.04)


def point(side: int, count: int = 1) -> Tensor:
    images = torch.zeros(count, 1, side, side)
    images[:, :, side // 2, side // 2] = 1
    return images


def spreads(images: Tensor) -> Tensor:
    """Variances in pixels along the two main axes of each image, smaller first: (N, 2)."""
    side = images.shape[-1]
    offsets = torch.arange(side).float() - side // 2
    rows, columns = torch.meshgrid(offsets, offsets, indexing="ij")
    weights = images[:, 0] / images.sum(dim=(1, 2, 3)).view(-1, 1, 1)
    moments = [
        (weights * product).sum(dim=(1, 2)) for product in (rows**2, rows * columns, columns**2)
    ]
    matrix = torch.stack([moments[0], moments[1], moments[1], moments[2]], dim=1).view(-1, 2, 2)
    values: Tensor = torch.linalg.eigvalsh(matrix)
    return values


@pytest.mark.parametrize("side", [32, 64])
def test_gaussian_blur_scales_with_the_image(side: int) -> None:
    sigma = CONSTANTS["gaussian_blur"][4] * side / 32
    result = corrupt(point(side), "gaussian_blur/5", generator=0)
    assert result.sum().item() == pytest.approx(1, abs=1e-5)
    assert spreads(result)[0].sqrt().tolist() == pytest.approx([sigma, sigma], rel=0.03)


@pytest.mark.parametrize("side", [32, 64])
def test_motion_blur_draws_a_line_of_its_length_at_an_angle_of_its_own(side: int) -> None:
    length = CONSTANTS["motion_blur"][4] * side / 32
    result = corrupt(point(side, count=64), "motion_blur/5", generator=0)
    assert result.sum(dim=(1, 2, 3)).tolist() == pytest.approx([1] * 64, abs=1e-5)
    narrow, wide = spreads(result).T
    assert wide.mean().item() == pytest.approx(length**2 / 12, rel=0.05)
    assert narrow.max().item() < 0.5
    assert len({tuple(image.flatten().tolist()) for image in result}) == 64


@pytest.mark.parametrize("name", ["gaussian_blur", "motion_blur", "pixelate", "contrast"])
def test_constant_images_stay_constant(name: str) -> None:
    images = torch.full((2, 3, 20, 24), 100, dtype=torch.uint8)
    assert torch.equal(corrupt(images, Condition(name, 5), generator=0), images)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_exposure_changes_by_stops(severity: int) -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    stops = CONSTANTS["darkness"][severity - 1]
    darker = corrupt(images, Condition("darkness", severity), generator=0)
    brighter = corrupt(images, Condition("overexposure", severity), generator=0)
    assert torch.allclose(darker, images * 2**-stops)
    assert torch.allclose(brighter, (images * 2**stops).clamp(max=1))


def test_brightness_tosses_a_fair_coin_for_each_image(grey_images: Tensor) -> None:
    result = corrupt(grey_images, "brightness/4", generator=0)
    halves = [corrupt(grey_images, name, generator=1) for name in ("darkness/4", "overexposure/4")]
    darker, brighter = ((result == half).flatten(1).all(dim=1) for half in halves)
    assert (darker ^ brighter).all()
    # Five standard deviations of 512 tosses.
    assert darker.sum().item() == pytest.approx(256, abs=5 * math.sqrt(128))


def test_contrast_leaves_its_share() -> None:
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    result = corrupt(images, "contrast/3", generator=0)
    assert torch.allclose(result.std(dim=(2, 3)), 0.25 * images.std(dim=(2, 3)), atol=1e-5)
    assert torch.allclose(result.mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=1e-5)


def test_pixelate_leaves_few_different_rows_and_columns() -> None:
    images = torch.rand(1, 1, 30, 40, generator=torch.Generator().manual_seed(0))
    result = corrupt(images, "pixelate/5", generator=0)[0, 0]
    assert len({tuple(row) for row in result.tolist()}) == 9
    assert len({tuple(column) for column in result.T.tolist()}) == 12


@settings(deadline=None, max_examples=30)
@given(st.lists(CONDITIONS, min_size=1, max_size=12), st.integers(0, 99))
def test_corrupt_each_equals_corrupting_group_after_group(
    conditions: list[Condition], seed: int
) -> None:
    images = torch.arange(len(conditions) * 64).remainder(256).byte().view(-1, 1, 8, 8)
    result = corrupt_each(images, [str(condition) for condition in conditions], generator=seed)
    generator = torch.Generator().manual_seed(seed)
    for condition in sorted(set(conditions)):
        members = [i for i, other in enumerate(conditions) if other == condition]
        expected = corrupt(images[members], condition, generator=generator)
        assert torch.equal(result[members], expected)


def test_corrupt_each_refuses_another_number_of_conditions(grey_images: Tensor) -> None:
    with pytest.raises(DataError, match=r"conditions: got 1, must be one an image \(2\)"):
        corrupt_each(grey_images[:2], ["clean"], generator=0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([[0]], "got list, must be a torch.Tensor"),
        (torch.zeros(1, 8, 8), r"got shape \(1, 8, 8\)"),
        (torch.zeros(1, 2, 8, 8), r"got shape \(1, 2, 8, 8\), must be \(N, C, H, W\)"),
        (torch.zeros(1, 1, 7, 8), "at least 8 pixels"),
        (torch.zeros(1, 1, 8, 8).int(), "got torch.int32, must be torch.uint8 or floating"),
        (torch.full((1, 1, 8, 8), 1.1), "values from 1.1"),
        (torch.full((1, 1, 8, 8), -0.1), "values from -0.1"),
        (torch.full((1, 1, 8, 8), math.nan), "values from nan"),
        (torch.full((1, 1, 8, 8), math.inf), "values from inf"),
    ],
)
def test_refuses_what_is_no_batch_of_images(images: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        corrupt(images, CLEAN, generator=0)


def test_refuses_unknown_conditions(grey_images: Tensor) -> None:
    with pytest.raises(ConditionError, match="did you mean 'jpeg'"):
        corrupt(grey_images, "jpg/3", generator=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_another_device_gives_the_same_images(colour_images: Tensor) -> None:
    for condition in (Condition(name, 3) for name in CORRUPTION_NAMES):
        result = corrupt(colour_images.cuda(), condition, generator=0)
        assert result.device.type == "cuda"
        # One level, because sums are rounded in another order there.
        difference = result.cpu().int() - corrupt(colour_images, condition, generator=0).int()
        assert difference.abs().max() <= 1
    with pytest.raises(ValueError, match="must be on the CPU"):
        corrupt(colour_images, CLEAN, generator=torch.Generator("cuda"))
