"""Opponents on standardised images: brightness and contrast are taken away, nothing else is."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from agents.experiments.command import main
from agents.experiments.methods import METHODS, recipe_of
from agents.experiments.result import load_results
from agents.experiments.standardized import Standardized
from agents.experiments.study import load_study
from dqmq_env.data import ImageData
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.quality import Mixture


@pytest.fixture
def pixels() -> Tensor:
    """Images in [0, 1] that do not fill the range."""
    generator = torch.Generator().manual_seed(0)
    return 0.3 + 0.4 * torch.rand(5, 1, 28, 28, generator=generator)


def _front(data: ImageData) -> nn.Module:
    """What a standardised network gives its inner one, pixels in [0, 1] in and out."""
    normalize = Normalize(data.mean, data.std)
    inner = Standardized(nn.Identity().eval(), data, Mixture.uniform(["clean", "contrast/3"]))
    return nn.Sequential(normalize, inner, _Denormalize(normalize))


class _Denormalize(nn.Module):
    def __init__(self, normalize: Normalize) -> None:
        super().__init__()
        self.mean, self.std = normalize.mean, normalize.std

    def forward(self, x: Tensor) -> Tensor:
        return x * self.std + self.mean


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.2), (0.1, 0.0), (0.5, 0.4), (1.4, -0.3)])
def test_brightness_and_contrast_make_no_difference(
    tiny_data: ImageData, pixels: Tensor, scale: float, offset: float
) -> None:
    front = _front(tiny_data)
    torch.testing.assert_close(front(scale * pixels + offset), front(pixels), atol=1e-4, rtol=1e-4)


def test_all_images_have_the_usual_mean_and_spread(tiny_data: ImageData, pixels: Tensor) -> None:
    found = _front(tiny_data)(pixels * torch.linspace(0.3, 1, 5)[:, None, None, None])
    for own in (found.mean((1, 2, 3)), found.std((1, 2, 3))):
        torch.testing.assert_close(own, own[:1].expand(5), atol=1e-4, rtol=1e-4)
    images = tiny_data.train.images.float() / 255
    assert images.mean((1, 2, 3)).min() < found.mean() < images.mean((1, 2, 3)).max()
    assert images.std((1, 2, 3)).min() < found[0].std() < images.std((1, 2, 3)).max()


def test_an_image_of_one_colour_stays_finite(tiny_data: ImageData) -> None:
    assert _front(tiny_data)(torch.full((2, 1, 28, 28), 0.5)).isfinite().all()


def test_every_opponent_stands_beside_itself_on_standardised_images(
    tmp_path: Path, few_images: Path
) -> None:
    """The same bits, the same training, other images."""
    words = ["run", "smoke", "--run", str(tmp_path), "--data", str(few_images)]
    main([*words, "--methods", "uniform", "uniform, standardised"])
    found = {own.run.method: own for own in load_results(tmp_path / "results")}
    plain, standardised = found["uniform"], found["uniform, standardised"]
    assert list((standardised.assignment or {}).values()) == list((plain.assignment or {}).values())
    assert standardised.rows != plain.rows
    assert {own.cost("seen") for own in (plain, standardised)} == {plain.cost("seen")}


def test_a_recipe_says_whether_images_are_standardised() -> None:
    named = [name for name in METHODS if name.endswith(", standardised")]
    assert len(named) == 7
    for name in named:
        plain = name.removesuffix(", standardised")
        assert recipe_of(name) == f"standardised {recipe_of(plain)}"


def test_a_study_may_be_standardised_as_a_whole() -> None:
    assert isinstance(
        load_study("smoke", standardized=True).problem("static").network, Standardized
    )
    assert not isinstance(load_study("smoke").problem("static").network, Standardized)
