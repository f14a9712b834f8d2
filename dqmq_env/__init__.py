"""Gymnasium suite for data-quality-aware mixed-precision quantisation.

Importing it registers the environments; ``gymnasium.make("dqmq_env:DQMQ-ResNet-v0")`` does both at
once. The names below are loaded, and torch with them, when they are first used.
"""

from typing import TYPE_CHECKING

from dqmq_env.lazy import lazy_names
from dqmq_env.registration import register_all
from dqmq_env.version import __version__

if TYPE_CHECKING:
    from dqmq_env.data import ImageData, ImageSplit, load_fashion_mnist
    from dqmq_env.envs.single import BitWidthEnv
    from dqmq_env.problem.network_problem import NetworkProblem
    from dqmq_env.quality import Condition, Mixture, corrupt, describe
    from dqmq_env.quantization.assignment import BitAssignment, LayerBits
    from dqmq_env.quantization.network import QuantizedNetwork
    from dqmq_env.task.task import Task
    from dqmq_env.zoo.checkpoints import load_checkpoint

__all__ = [
    "BitAssignment",
    "BitWidthEnv",
    "Condition",
    "ImageData",
    "ImageSplit",
    "LayerBits",
    "Mixture",
    "NetworkProblem",
    "QuantizedNetwork",
    "Task",
    "__version__",
    "corrupt",
    "describe",
    "load_checkpoint",
    "load_fashion_mnist",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BitAssignment": "dqmq_env.quantization.assignment",
        "BitWidthEnv": "dqmq_env.envs.single",
        "Condition": "dqmq_env.quality",
        "ImageData": "dqmq_env.data",
        "ImageSplit": "dqmq_env.data",
        "LayerBits": "dqmq_env.quantization.assignment",
        "Mixture": "dqmq_env.quality",
        "NetworkProblem": "dqmq_env.problem.network_problem",
        "QuantizedNetwork": "dqmq_env.quantization.network",
        "Task": "dqmq_env.task.task",
        "corrupt": "dqmq_env.quality",
        "describe": "dqmq_env.quality",
        "load_checkpoint": "dqmq_env.zoo.checkpoints",
        "load_fashion_mnist": "dqmq_env.data",
    },
)

register_all()
