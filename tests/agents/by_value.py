"""Small agents by value, and images for them."""

from typing import Any, Final

from torch import Tensor

from agents.hybrid.agent import HybridAgent
from agents.hybrid.settings import HybridSettings
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.training.loop import Schedule

_BY_VALUE: Final[dict[str, Any]] = {
    "decides": "network",
    "distribution": "value",
    "search_share": 0.0,
    "value_images": 128,
    "ladder": 2,
    "align": True,
    "budget": 0.1,
    "settle_images": 128,
    "sees": ("map",),
    "grid_share": 1.0,  # so narrow a network has few other BOPs
}


def agent_by_value(problem: NetworkProblem, steps: int = 30, **settings: Any) -> HybridAgent:
    """One decision between rungs, by value; settings in place of these are by name."""
    schedule = Schedule(images=steps * 32, batch=32, learning_rate=5e-3)
    own = HybridSettings(**{**_BY_VALUE, **settings})
    return HybridAgent(BitWidthEnv(problem), own, schedule, device="cpu")


def mixed_images(problem: NetworkProblem, count: int = 96) -> Tensor:
    """Training images of mixed quality, uint8, shape (count, C, H, W)."""
    return MixedQualityBatches(problem.data.train, problem.mixture, count, seed=5).at(0).images
