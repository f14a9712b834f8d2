from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dqmq_env.data import ImageSplit, load_fashion_mnist
from dqmq_env.errors import SettingError
from dqmq_env.quality import DEFAULT_MIXTURE, Mixture
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.quality.conditioned import ConditionedImages


@pytest.fixture(scope="module")
def split() -> ImageSplit:
    return load_fashion_mnist().train.take(100)


@given(st.integers(0, 50))
def test_a_batch_depends_on_seed_and_step_alone(split: ImageSplit, step: int) -> None:
    one = MixedQualityBatches(split, DEFAULT_MIXTURE, 10, seed=3)
    other = MixedQualityBatches(split, DEFAULT_MIXTURE, 10, seed=3)
    other.at(0)
    first, second = one.at(step), other.at(step)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert first.conditions == second.conditions
    assert not torch.equal(first.images, one.at(step + 1).images)


def test_an_epoch_has_every_image_once(split: ImageSplit) -> None:
    batches = MixedQualityBatches(split, Mixture({"clean": 1}), 10, seed=0, shift=0)
    assert batches.steps_per_epoch == 10
    for epoch in range(2):
        seen = torch.cat([batches.at(10 * epoch + i).images.flatten(1) for i in range(10)])
        assert Counter(row.numpy().tobytes() for row in seen) == Counter(
            row.numpy().tobytes() for row in split.images.flatten(1)
        )


def test_without_shift_labels_go_with_their_images(split: ImageSplit) -> None:
    batches = MixedQualityBatches(split, Mixture({"clean": 1}), 20, seed=0, shift=0)
    known = {
        image.numpy().tobytes(): int(label)
        for image, label in zip(split.images, split.labels, strict=True)
    }
    batch = batches.at(2)
    for image, label in zip(batch.images, batch.labels, strict=True):
        assert known[image.numpy().tobytes()] == int(label)


def test_augmentation_is_a_shift_or_a_mirrored_shift(split: ImageSplit) -> None:
    batches = MixedQualityBatches(split, Mixture({"clean": 1}), 20, seed=0, shift=2)
    padded = torch.nn.functional.pad(split.images, (2, 2, 2, 2))
    candidates = {
        variant[..., top : top + 28, left : left + 28].numpy().tobytes()
        for image in padded
        for variant in (image, image.flip(-1))
        for top in range(5)
        for left in range(5)
    }
    assert all(image.numpy().tobytes() in candidates for image in batches.at(0).images)


def test_a_group_shares_its_condition(split: ImageSplit) -> None:
    batch = MixedQualityBatches(split, DEFAULT_MIXTURE, 40, seed=0, group=8).at(0)
    groups = [set(batch.conditions[i : i + 8]) for i in range(0, 40, 8)]
    assert all(len(group) == 1 for group in groups)
    assert len(set.union(*groups)) > 1


@pytest.mark.parametrize(("size", "group"), [(0, 1), (101, 1), (10, 3), (10, 0)])
def test_sizes_that_do_not_fit_are_refused(split: ImageSplit, size: int, group: int) -> None:
    with pytest.raises(SettingError):
        MixedQualityBatches(split, DEFAULT_MIXTURE, size, seed=0, group=group)


def test_conditioned_images_are_the_same_in_any_order(split: ImageSplit) -> None:
    one, other = ConditionedImages(split, 1), ConditionedImages(split, 1)
    other.under("shot_noise/2")
    assert torch.equal(one.under("gaussian_noise/3"), other.under("gaussian_noise/3"))
    assert torch.equal(one.under("clean"), split.images)
    noisy = ConditionedImages(split, 2).under("gaussian_noise/3")
    assert not torch.equal(noisy, one.under("gaussian_noise/3"))
