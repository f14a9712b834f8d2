"""An evaluation loop in the manner of HAQ's public code, as a reference for speed.

What ``lib/env/linear_quantize_env.py`` of mit-han-lab/haq does for an episode, without its
fine-tuning: load the pretrained weights anew, give each layer its bits, set thresholds (one for a
weight tensor, one for an activation) by calibration on one batch, and run the whole evaluation
batch through the network.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from dqmq_env.evaluation.accuracy import judge
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.divergence import HaqThreshold
from dqmq_env.quantization.network import QuantizedNetwork


@torch.no_grad()
def haq_style_episode(
    problem: NetworkProblem, images: Tensor, labels: Tensor, bits: Sequence[int]
) -> float:
    """Accuracy of the network at the given bits, computed from scratch.

    Args:
        problem: gives the float network and the calibration images.
        images: uint8, shape (N, C, H, W).
        labels: shape (N,).
        bits: of each layer in forward order.
    """
    network = copy.deepcopy(problem.network)
    network.load_state_dict({k: v.clone() for k, v in problem.network.state_dict().items()})
    names = [spec.name for spec in problem.layers]
    candidates = {name: (width,) for name, width in zip(names, bits, strict=True)}
    quantized = QuantizedNetwork(network, problem.layers, candidates, per_channel=False)
    quantized.calibrate(problem.normalize(problem.calibration), HaqThreshold(), HaqThreshold())
    pairs = {name: (width, width) for name, width in zip(names, bits, strict=True)}
    return judge(quantized(problem.normalize(images), BitAssignment(pairs)), labels)[0]
