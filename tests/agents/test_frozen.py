"""A policy over frozen weights: with a learning rate of 0, bits alone are learned."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agents.hybrid import twin_study
from agents.hybrid.agent import HybridAgent
from agents.hybrid.export import HybridPolicy
from agents.hybrid.settings import PRESETS, preset
from dqmq_env.benchmark.resolve import environment_of
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.problem.build_table import TableArguments, table_problem
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.training.loop import Schedule

FEW = {"budget": 0.15, "value_images": 96, "settle_images": 96}
SCHEDULE = Schedule(images=20 * 32, batch=32, learning_rate=0.0)


@pytest.fixture(scope="module")
def problem(make_tiny_problem: Callable[..., NetworkProblem]) -> NetworkProblem:
    return make_tiny_problem(bits=(2, 3, 4), granularity="image")


@pytest.fixture(scope="module", params=PRESETS)
def agent(request: pytest.FixtureRequest, problem: NetworkProblem) -> HybridAgent:
    settings = preset(request.param, **FEW)
    return HybridAgent(BitWidthEnv(problem), settings, SCHEDULE, device="cpu").learn()


def images_of(problem: NetworkProblem) -> torch.Tensor:
    return MixedQualityBatches(problem.data.train, problem.mixture, 64, seed=5).at(0).images


def test_weights_stay_what_post_training_quantisation_left(
    agent: HybridAgent, problem: NetworkProblem
) -> None:
    x = problem.normalize(images_of(problem))
    learned = agent.network.eval()
    for layer, own in zip(problem.quantized.layers, learned.layers, strict=True):
        for bits in layer.candidates:
            torch.testing.assert_close(own.quantized_weight(bits), layer.quantized_weight(bits))
    if not agent.settings.align:  # a norm of each width changes what comes out
        uniform = problem.uniform(3)
        with torch.no_grad():
            torch.testing.assert_close(learned(x, uniform), problem.quantized(x, uniform))


def test_the_policy_is_learned_all_the_same(agent: HybridAgent, problem: NetworkProblem) -> None:
    begun = HybridAgent(BitWidthEnv(problem), agent.settings, SCHEDULE, device="cpu")
    before, after = begun.policy.head.state_dict(), agent.policy.head.state_dict()
    assert any(not torch.equal(before[name], own) for name, own in after.items())
    cost = agent.deployed()(images_of(problem)).cost.mean().item()
    assert cost <= 1.1 * FEW["budget"]


def test_it_is_saved_and_loaded_with_the_same_answers(
    agent: HybridAgent, problem: NetworkProblem, tmp_path: Path
) -> None:
    agent.save(tmp_path / "agent.dqmq")
    again = HybridAgent.load(tmp_path / "agent.dqmq", BitWidthEnv(problem), device="cpu")
    images = images_of(problem)
    assert torch.equal(again.deployed()(images).logits, agent.deployed()(images).logits)
    assert HybridPolicy.of(again).budget == agent.settings.budget


def test_what_it_finds_is_looked_up_in_the_table() -> None:
    live = table_problem(TableArguments(), granularity="static")
    env = environment_of(twin_study.ppo_job(0.3, 1000))
    found = twin_study.agent_run(live, env, images=48, seed=1000)
    assert 0.95 < found.shares.search <= 1
    assert 0.95 < found.shares.test < 1.05
    assert found.images >= 48


def test_the_best_rule_is_the_best_on_the_images_it_was_chosen_by() -> None:
    job = replace(twin_study.ppo_job(0.3, 1000), evaluations=50)
    env = environment_of(job)
    tried = twin_study.ppo_run(job, env)
    assert 0.9 < tried.shares.search <= 1
    assert 0.9 < tried.shares.test < 1.1
    for score in twin_study.best_scores(env):
        assert score.reward == pytest.approx(score.optimum)
