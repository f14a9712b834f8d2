"""Agents over linear layers whose input is tokens, or a map with its channels last."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.hybrid.agent import HybridAgent
from agents.hybrid.export import HybridPolicy
from agents.hybrid.settings import HybridSettings
from baselines.dqnet.dqnet import DQNet
from dqmq_env.data import ImageData
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.export import OnnxDynamic
from dqmq_env.export.onnx_exporter import dynamic_model
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality import Mixture
from dqmq_env.training.loop import Schedule
from tests.agents.by_value import agent_by_value, mixed_images


class Tokens(nn.Module):
    """As vision transformers and ConvNeXt are made: patches, then linear layers, channels last.

    Args:
        flat: whether patches become tokens (N, T, C), or stay a map (N, H, W, C).
    """

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.flat = flat
        self.stem = nn.Conv2d(1, 8, 4, 4)
        self.norm = nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        if self.flat:
            x = x.flatten(1, 2)
        x = x + self.down(self.up(self.norm(x)).relu())
        out: Tensor = self.head(x.flatten(1, -2).mean(1))
        return out


@pytest.fixture(scope="module", params=[True, False], ids=["tokens", "map"])
def problem(request: pytest.FixtureRequest, tiny_data: ImageData) -> NetworkProblem:
    torch.manual_seed(0)
    return NetworkProblem.over(
        Tokens(request.param).eval(),
        tiny_data,
        bits=(2, 4, 8),
        first=None,
        granularity="image",
        conditions=Mixture({"clean": 1, "contrast/5": 1}),
        batch_size=20,
        calibration_images=40,
    )


def check(agent: HybridAgent) -> None:
    """It has learned, keeps to its budget, and is the same as a file."""
    before = agent.problem.trainable().state_dict()
    learned = agent.network.state_dict()
    assert not torch.equal(before["network.up.inner.weight"], learned["network.up.inner.weight"])
    images = mixed_images(agent.problem, 64)
    deployed = agent.deployed()(images)
    assert bool(deployed.logits.isfinite().all())
    assert float(deployed.cost.mean()) <= agent.settings.budget * 1.05
    policy = HybridPolicy.of(agent)
    model = dynamic_model(agent.problem, agent.network, policy)
    found = OnnxDynamic(model.SerializeToString())(images)
    expected = policy.at_work(agent.network.folded())(images)
    assert torch.equal(expected.bits, found.bits)
    assert torch.allclose(expected.cost, found.cost, atol=1e-5)
    agreed = (expected.logits.argmax(1) == found.logits.argmax(1)).float().mean()
    assert float(agreed) > 0.95


def test_grids_and_bits_by_value(problem: NetworkProblem) -> None:
    agent = agent_by_value(problem, follow=("bits", "grids", "input"), budget=0.6).learn()
    modulation = agent.policy.grids.modulation
    assert modulation is not None
    for parameter in (*modulation.scales, *modulation.offsets):
        assert float(parameter.detach().abs().max()) > 1e-3
    check(agent)


def test_decisions_before_each_layer(problem: NetworkProblem) -> None:
    settings: dict[str, Any] = {
        "budget": 0.8,
        "settle_images": 128,
        "sees": ("quality", "statistics", "channels", "map"),
    }
    schedule = Schedule(images=480, batch=32, learning_rate=5e-3)
    own = HybridSettings(**settings)
    check(HybridAgent(BitWidthEnv(problem), own, schedule, device="cpu").learn())


def test_dqnet_looks_at_tokens(problem: NetworkProblem) -> None:
    method = DQNet(images=320, batch=32, choices=None, hidden=4)
    network = method.train(problem, 0.9, seed=0)
    images = mixed_images(problem, 40)
    whole, part = network(images), network(images[:7])
    assert bool(whole.logits.isfinite().all())
    assert torch.equal(whole.bits[:7], part.bits)
