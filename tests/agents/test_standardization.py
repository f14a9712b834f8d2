"""A grid of the image itself that follows it: its mean and spread, nearer to what is usual."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from agents.experiments.judge import DEALT_GRIDS, SEEN, judge_under
from agents.experiments.probes import DealtGrids
from agents.hybrid.agent import HybridAgent
from agents.hybrid.export import HybridPolicy
from agents.hybrid.eyes import Eyes, Scene
from agents.hybrid.settings import HybridSettings, preset
from agents.hybrid.standardization import Standardization
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import SettingError
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality import corrupt
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.training.loop import Schedule
from tests.agents.by_value import agent_by_value, mixed_images

SHAPE = (3, 12, 16)
MEAN, SPREAD = (0.5, 0.4, 0.6), (0.2, 0.25, 0.3)


def some_images(seed: int, count: int = 12) -> Tensor:
    """Random pictures of many brightnesses and contrasts."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, *SHAPE, generator=generator)
    contrast = torch.rand(count, 1, 1, 1, generator=generator) * 50 + 5
    brightness = torch.rand(count, 1, 1, 1, generator=generator) * 120 + 60
    return (noise * contrast + brightness).round().clamp(0, 255).byte()


def standardized(
    images: Tensor,
    power: float,
    pull: float,
    groups: int | None = None,
    usual: Tensor | None = None,
) -> Tensor:
    """Pixels in [0, 1] as they are seen by a network that is told to standardise them."""
    normalize = Normalize(MEAN, SPREAD)
    eyes = Eyes(SHAPE, ("map",))
    own = Standardization(SHAPE)
    usual = some_images(0, 64) if usual is None else usual
    own.calibrate(usual, normalize(usual), eyes.scene(usual, len(usual)))
    own.power.data.fill_(power)
    own.pull.data.fill_(pull)
    with torch.no_grad():
        x = own(normalize(images), eyes.scene(images, groups or len(images)))
    spread, mean = torch.tensor(SPREAD), torch.tensor(MEAN)
    return x * spread[:, None, None] + mean[:, None, None]


@pytest.fixture(scope="module")
def make_problem(make_tiny_problem: Callable[..., NetworkProblem]) -> Callable[..., NetworkProblem]:
    return lambda granularity: make_tiny_problem(
        bits=(1, 2, 4), weight_bits=2, granularity=granularity
    )


@pytest.fixture(scope="module", params=[("bits", "input"), ("input",), ("grids", "input")])
def trained(
    request: pytest.FixtureRequest, make_problem: Callable[..., NetworkProblem]
) -> HybridAgent:
    return agent_by_value(make_problem("image"), follow=request.param).learn()


@given(st.integers(0, 1000))
def test_at_zero_it_is_the_identity(seed: int) -> None:
    images = some_images(seed)
    torch.testing.assert_close(standardized(images, 0, 0), images / 255, atol=1e-5, rtol=0)


@given(st.integers(0, 1000))
def test_at_one_all_images_have_the_same_mean_and_spread(seed: int) -> None:
    pixels = standardized(some_images(seed), 1, 1).flatten(1)
    mean, spread = pixels.mean(1), pixels.std(1, correction=0)
    assert float(mean.std()) < 1e-4
    assert float(spread.std() / spread.mean()) < 1e-3


@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1))
def test_pixels_keep_their_order_and_colours_their_distance(
    seed: int, power: float, pull: float
) -> None:
    """All channels of an image have the same scale and offset, as pixels in [0, 1]."""
    images = some_images(seed)
    before, after = images / 255, standardized(images, power, pull)
    for one, other in zip(before.flatten(1), after.flatten(1), strict=True):
        centred, moved = one - one.mean(), other - other.mean()
        factor = (centred @ moved) / (centred @ centred)
        torch.testing.assert_close(moved, factor * centred, atol=2e-4, rtol=2e-3)


@pytest.mark.parametrize("condition", ["contrast/2", "contrast/3", "brightness/1"])
def test_contrast_and_brightness_are_undone(condition: str) -> None:
    generator = torch.Generator().manual_seed(3)
    noise = torch.rand(16, *SHAPE, generator=generator)
    images = (noise * 0.35 * 255 + 0.2 * 255).round().byte()
    worse = corrupt(images, condition, generator=1)
    plain = (worse / 255.0 - images / 255.0).abs().mean()
    mended = (standardized(worse, 1, 1) - standardized(images, 1, 1)).abs().mean()
    assert float(mended) < 0.15 * float(plain)


def test_an_image_without_contrast_stays_finite() -> None:
    images = torch.full((2, *SHAPE), 77, dtype=torch.uint8)
    assert bool(standardized(images, 1, 1).isfinite().all())


def test_a_channel_that_is_always_empty_stays_what_it_is() -> None:
    images, usual = some_images(5), some_images(0, 64)
    images[:, 1] = usual[:, 1] = 0
    found = standardized(images, 0, 0, usual=usual)
    torch.testing.assert_close(found, images / 255, atol=1e-5, rtol=0)
    assert bool(standardized(images, 1, 1, usual=usual).isfinite().all())


def test_groups_are_standardised_together() -> None:
    images = some_images(7, 8)
    found = standardized(images, 1, 1, groups=2)
    for first in (0, 4):
        alone = standardized(images[first : first + 4], 1, 1, groups=1)
        torch.testing.assert_close(found[first : first + 4], alone)


def test_it_is_learned_with_the_weights(trained: HybridAgent) -> None:
    own = trained.policy.grids.standardization
    assert own is not None
    assert abs(own.power.item() - 1) > 1e-3
    assert abs(own.pull.item() - 1) > 1e-3
    free = {id(parameter) for parameter in trained.policy.deciding()}
    assert not free & {id(parameter) for parameter in own.parameters()}


def test_images_are_as_they_are_for_weights_that_are_not_trained(
    make_problem: Callable[..., NetworkProblem],
) -> None:
    problem = make_problem("image")
    settings = preset(budget=0.1, value_images=128, settle_images=128)
    frozen = Schedule(images=64, batch=32, learning_rate=0.0)
    agent = HybridAgent(BitWidthEnv(problem), settings, frozen, device="cpu").learn()
    images = mixed_images(problem, 8)
    x, scene = problem.normalize(images), agent.policy.scene(images, 8)
    found, _ = agent.policy.grids.around(x, lambda index, activation: LayerBits(8, 8), scene)
    torch.testing.assert_close(found, x, atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_finite_differences(
    make_problem: Callable[..., NetworkProblem],
) -> None:
    agent = agent_by_value(make_problem("image"), follow=("bits", "input"))
    own, images = agent.policy.grids.standardization, mixed_images(agent.problem, 8)
    assert own is not None
    seen = agent.policy.scene(images, 8)
    assert seen.cells is not None
    scene = Scene(seen.quality, seen.cells.double())
    x = agent.problem.normalize(images).double()
    own.double()

    def loss() -> Tensor:
        found: Tensor = own(x, scene)
        return found.sin().sum()

    for parameter in (own.power, own.pull):
        parameter.data.fill_(0.4)
        own.zero_grad()
        loss().backward()
        assert parameter.grad is not None
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.fill_(0.4 + sign * 1e-5)
                ends.append(float(loss()))
        slope = (ends[0] - ends[1]) / 2e-5
        assert float(parameter.grad) == pytest.approx(slope, rel=1e-4)
        parameter.data.fill_(0.4)


def test_what_it_takes_is_counted(make_problem: Callable[..., NetworkProblem]) -> None:
    problem = make_problem("image")
    whole = 64 * sum(spec.macs for spec in problem.layers)
    plain, more, alone = (
        agent_by_value(problem, follow=follow).costing.controller * whole
        for follow in (("bits",), ("bits", "input"), ("input",))
    )
    pixels, cells = 28 * 28, 16
    assert more - plain == pytest.approx(64 * (4 * pixels + 8 * cells))
    assert more - plain < alone < more  # where nothing else looks at the image, it has to


def test_each_image_is_classified_as_if_it_came_alone(trained: HybridAgent) -> None:
    deployed, images = trained.deployed(), mixed_images(trained.problem, 24)
    together = deployed(images)
    alone = torch.cat([deployed(image[None]).logits for image in images])
    torch.testing.assert_close(together.logits, alone, atol=1e-4, rtol=1e-4)
    assert HybridPolicy.of(trained).settled(trained.network) is None


def test_a_loaded_agent_computes_alike(trained: HybridAgent, tmp_path: Path) -> None:
    images = mixed_images(trained.problem)
    trained.save(tmp_path / "agent.dqmq")
    env = BitWidthEnv(trained.problem)
    loaded = HybridAgent.load(tmp_path / "agent.dqmq", env, device="cpu")
    assert torch.equal(loaded.deployed()(images).logits, trained.deployed()(images).logits)


def test_images_can_be_misled_to_the_grid_of_another(trained: HybridAgent) -> None:
    network = trained.deployed()
    probes = {DEALT_GRIDS: DealtGrids(network)}
    rows = judge_under(network, trained.problem.data.test, trained.problem.mixture, 1, probes)
    assert rows[SEEN] != rows[DEALT_GRIDS]
    own = network(mixed_images(trained.problem, 16))
    same = network.at_bits(mixed_images(trained.problem, 16), own.bits)
    torch.testing.assert_close(same, own.logits)


@pytest.mark.parametrize("granularity", ["batch", "static"])
def test_batches_share_their_grid_and_static_agents_have_one(
    granularity: str, make_problem: Callable[..., NetworkProblem]
) -> None:
    agent = agent_by_value(make_problem(granularity), 4, group=8, follow=("bits", "input")).learn()
    assert (agent.policy.grids.standardization is None) == (granularity == "static")
    assert len(agent.deployed()(mixed_images(agent.problem, 16)).bits.unique(dim=0)) == 1


def test_it_needs_a_map() -> None:
    with pytest.raises(SettingError, match="needs 'map'"):
        HybridSettings(follow=("bits", "input"), sees=("quality",))
