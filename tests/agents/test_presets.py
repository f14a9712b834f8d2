"""Settings that go together."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from agents.hybrid.agent import HybridAgent
from agents.hybrid.settings import PRESETS, HybridSettings, preset
from dqmq_env.cli import main
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.training.loop import Schedule

FEW = {"budget": 0.12, "value_images": 128, "settle_images": 128}
SCHEDULE = Schedule(images=20 * 32, batch=32)


@pytest.fixture(scope="module")
def make_problem(make_tiny_problem: Callable[..., NetworkProblem]) -> Callable[..., NetworkProblem]:
    return lambda granularity: make_tiny_problem(bits=(1, 2, 4), granularity=granularity)


@pytest.fixture(scope="module")
def usual(make_problem: Callable[..., NetworkProblem]) -> HybridAgent:
    env = BitWidthEnv(make_problem("image"))
    return HybridAgent(env, preset(**FEW), SCHEDULE, device="cpu").learn()


@pytest.mark.parametrize("granularity", ["image", "batch", "static"])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_whatever_bits_follow_and_keeps_the_budget(
    make_problem: Callable[..., NetworkProblem], name: str, granularity: str
) -> None:
    problem = make_problem(granularity)
    settings = preset(name, group=32, **FEW)
    agent = HybridAgent(BitWidthEnv(problem), settings, SCHEDULE, device="cpu").learn()
    # of as many images as shared their bits when the budget was settled
    batches = MixedQualityBatches(problem.data.train, problem.mixture, settings.group, seed=5)
    costs = [agent.deployed()(batches.at(step).images).cost.mean().item() for step in range(12)]
    assert np.mean(costs) <= 1.05 * FEW["budget"]


def test_an_agent_without_settings_has_the_usual_ones(
    make_problem: Callable[..., NetworkProblem],
) -> None:
    agent = HybridAgent(BitWidthEnv(make_problem("image")), device="cpu")
    assert agent.settings == preset() == preset("by-value")


def test_the_usual_agent_plays_episodes_next_to_its_budget(
    usual: HybridAgent, make_problem: Callable[..., NetworkProblem]
) -> None:
    env = BitWidthEnv(make_problem("image"))
    observation, _ = env.reset(seed=0)
    done = False
    while not done:
        action, _ = usual.predict(observation)
        observation, _, done, _, info = env.step(action)
    of_network, budget = usual.costing.of_network, FEW["budget"]
    below = max(cost for cost in of_network if cost <= budget)
    above = min(cost for cost in of_network if cost >= budget)
    played = env.problem.cost(BitAssignment(info["assignment"]))["bops"]
    assert played + usual.costing.controller in (pytest.approx(below), pytest.approx(above))


def test_the_search_is_no_longer_than_the_training(
    make_problem: Callable[..., NetworkProblem],
) -> None:
    settings = preset(**{**FEW, "value_images": 10_000})
    env = BitWidthEnv(make_problem("image"))
    agent = HybridAgent(env, settings, SCHEDULE, device="cpu").learn()
    forecast, measured = SCHEDULE.images, 2 * SCHEDULE.images
    assert agent.images_settled == forecast + measured + FEW["settle_images"]


def test_a_preset_is_changed_by_name() -> None:
    assert preset("by-layer", budget=0.2) == replace(preset("by-layer"), budget=0.2)
    assert preset("by-layer") != preset("by-value")
    assert HybridSettings(**PRESETS["by-value"]) == preset("by-value")


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(SettingError, match=r"preset: got 'by-luck', allowed are \['by-value'"):
        preset("by-luck")


@pytest.mark.parametrize(
    ("words", "decides"), [([], "network"), (["by-value"], "network"), (["by-layer"], "layer")]
)
def test_the_help_of_a_preset_shows_its_settings(
    words: list[str], decides: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", *words, "--help"])
    assert stop.value.code == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"(default: {decides})" in shown
