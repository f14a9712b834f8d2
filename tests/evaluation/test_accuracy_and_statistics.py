import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dqmq_env.data import ImageData
from dqmq_env.errors import SettingError
from dqmq_env.evaluation.accuracy import accuracy_under, judge
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.evaluation.statistic_table import ACTIVATION_STATISTICS, statistics_bops
from dqmq_env.evaluation.statistics import activation_statistics, image_cells
from dqmq_env.quality.conditioned import ConditionedImages
from dqmq_env.quantization.tracing import trace_layers


def test_judging_logits_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.0, 0.5]])
    accuracy, loss = judge(logits, torch.tensor([0, 1, 1, 0]))
    assert accuracy == 0.5
    differences = [-2, -1, 2, 0.5]
    assert loss == pytest.approx(sum(math.log(1 + math.exp(d)) for d in differences) / 4)


def test_normalisation_is_per_channel() -> None:
    normalize = Normalize([0.25, 0.5, 0.75], [0.5, 0.25, 2.0])
    images = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    result = normalize(images)
    assert result.dtype == torch.float32
    for channel, (mean, std) in enumerate([(0.25, 0.5), (0.5, 0.25), (0.75, 2.0)]):
        expected = (images[:, channel].double() / 255 - mean) / std
        assert torch.allclose(result[:, channel].double(), expected, atol=1e-6)
    assert torch.allclose(normalize(images.float() / 255), result, atol=1e-6)


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0.5], [0.0]), ([0.5], [-1.0]), ([0.5, 0.5], [1.0]), ([], []), ([0.5], [float("nan")])],
)
def test_other_normalisation_is_refused(mean: list[float], std: list[float]) -> None:
    with pytest.raises(SettingError, match="std: got"):
        Normalize(mean, std)


def test_accuracy_under_a_condition(tiny_data: ImageData) -> None:
    class Darkness(nn.Module):
        """Says class 1 of dark images, else class 0."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            dark = images.float().mean((1, 2, 3)) < 10
            return F.one_hot(dark.long(), 10).float()

    images = ConditionedImages(tiny_data.test)
    for condition in ("clean", "darkness/5"):
        dark = images.under(condition).float().mean((1, 2, 3)) < 10
        expected = float((dark.long() == tiny_data.test.labels).double().mean())
        for batch in (7, 500):
            assert accuracy_under(Darkness(), images, condition, batch) == expected


def test_statistics_by_hand() -> None:
    x = torch.tensor([[0.0, 1.0, -2.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    rows = activation_statistics(x, 1, torch.tensor(4.0), groups=2)
    expected = [6 / 4 / 4, math.sqrt(14 / 4) / 4, 0.75, 3 / 8]
    assert rows[0].tolist() == pytest.approx(expected)
    assert rows[1].tolist() == [0, 0, 0, 0]
    assert len(ACTIVATION_STATISTICS) == 4


def test_every_second_row_and_column_is_looked_at() -> None:
    x = torch.rand(2, 3, 5, 7)
    seen = x[:, :, ::2, ::2].reshape(1, -1)
    row = activation_statistics(x, 1, torch.tensor(1.0))[0]
    assert float(row[0]) == pytest.approx(float(seen.mean()), rel=1e-5)
    assert float(row[1]) == pytest.approx(float(seen.square().mean().sqrt()), rel=1e-5)
    # 3 x 3 x 4 values, three operations of 8 bits and one of 8 x 8 each
    convolution, linear = (
        trace_layers(nn.Sequential(layer), like)[0]
        for layer, like in ((nn.Conv2d(3, 1, 1), x[:1]), (nn.Linear(16, 1), torch.rand(1, 16)))
    )
    assert statistics_bops(convolution) == 3 * 3 * 4 * (3 * 8 + 64)
    assert statistics_bops(linear) == 16 * 88


@settings(max_examples=30)
@given(
    seed=st.integers(0, 999),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    groups=st.sampled_from([1, 2, 4]),
)
def test_statistics_lie_between_zero_and_one(seed: int, scale: float, groups: int) -> None:
    x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * scale
    rows = activation_statistics(x, 1, torch.tensor(1.0), groups)
    assert rows.shape == (groups, 4)
    assert bool(((rows >= 0) & (rows <= 1)).all())
    for group, part in enumerate(x.split(4 // groups)):
        alone = activation_statistics(part, 1, torch.tensor(1.0))[0]
        assert torch.allclose(rows[group], alone, rtol=1e-5)


def test_statistics_pass_gradients_but_for_the_share_of_nonzeros() -> None:
    x = torch.rand(2, 5).requires_grad_()
    for k, name in enumerate(ACTIVATION_STATISTICS):
        x.grad = None
        activation_statistics(x, 1, torch.tensor(2.0))[0, k].backward()
        assert x.grad is not None
        assert (float(x.grad.abs().sum()) > 0) == (name != "nonzero")


@settings(max_examples=20)
@given(
    seed=st.integers(0, 999),
    groups=st.sampled_from([1, 2, 4]),
    shape=st.sampled_from([(4, 6), (4, 3, 5, 4), (4, 1, 3, 3)]),
    channels_last=st.booleans(),
)
def test_gradients_of_statistics_are_finite_differences(
    seed: int, groups: int, shape: tuple[int, ...], channels_last: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    if channels_last and len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    reach = torch.tensor(8.0, dtype=torch.float64)
    rows = activation_statistics(x, 1, reach, groups)
    columns = [0, 1, 3]  # the share of non-zeros has no slope
    assert torch.autograd.gradcheck(
        lambda own: activation_statistics(own, 1, reach, groups)[:, columns], x.requires_grad_()
    )
    torch.testing.assert_close(activation_statistics(x, 1, reach, groups), rows)


def test_what_shares_the_peak_shares_its_gradient() -> None:
    x = torch.tensor([[2.0, -2.0, 1.0, 0.0]]).requires_grad_()
    activation_statistics(x, 1, torch.tensor(1.0))[0, 3].backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0, 0, 0, 0]]  # cut off at 1
    x.grad = None
    activation_statistics(x, 1, torch.tensor(4.0))[0, 3].backward()
    assert x.grad.tolist() == [[0.0625, -0.0625, 0, 0]]


def test_gradients_of_dead_activations_are_finite() -> None:
    x = torch.zeros(2, 5).requires_grad_()
    activation_statistics(x, 1, torch.tensor(2.0)).sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())


def test_image_cells_are_brightness_and_contrast() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (6, 3, 8, 12), generator=generator, dtype=torch.uint8)
    cells = (images / 255).unflatten(3, (4, 3)).unflatten(2, (4, 2))
    expected = torch.cat(
        [cells.mean((3, 5)).flatten(1), cells.std((3, 5), correction=0).flatten(1)], 1
    )
    assert torch.allclose(image_cells(images, 4, 6), expected, atol=1e-5)
    groups = image_cells(images, 4, 2)
    assert torch.allclose(groups, expected.unflatten(0, (2, 3)).mean(1), atol=1e-5)


def test_cells_that_cut_a_place_in_two_share_it() -> None:
    """Their mean brightness is then that of the whole; where all is alike there is no contrast."""
    generator = torch.Generator().manual_seed(1)
    uneven = torch.randint(256, (2, 3, 7, 9), generator=generator, dtype=torch.uint8)
    brightness, _ = image_cells(uneven, 4, 2).unflatten(1, (2, 3, 16)).unbind(1)
    assert torch.allclose(brightness.mean(2), uneven.float().mean((2, 3)) / 255, atol=1e-6)
    flat = torch.full((1, 1, 7, 9), 200, dtype=torch.uint8)
    assert image_cells(flat, 4)[:, 16:].max() < 1e-3
