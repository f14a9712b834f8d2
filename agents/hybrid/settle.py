"""After training: statistics of batch norms, and the budget, under the decisions without draws."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.hybrid.deployed import DynamicNetwork
from dqmq_env.quantization.surgery import eval_mode

_HALVINGS = 12
_CLOSE = 0.002


@torch.no_grad()
def measure_batch_norms(dynamic: DynamicNetwork, batches: Sequence[Tensor]) -> int:
    """Set the statistics of batch norms to what the images of some batches give, all alike.

    Args:
        dynamic: its network is changed; its batch norms are not folded.
        batches: images of the training mixture, uint8, each (N, C, H, W).

    Returns:
        Number of images passed through the network.
    """
    norms = [m for m in dynamic.network.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.training) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over batches
        norm.train()
    for images in batches:
        dynamic.run(images)
    for norm, (momentum, training) in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.train(training)
    return sum(len(images) for images in batches)


def meet_budget(dynamic: DynamicNetwork, batches: Sequence[Tensor]) -> int:
    """Shift where the policy starts so that the average cost comes up to each budget from below.

    Without draws the average differs a little from what was expected in training. The shift, in
    bits, is found by halving; where no shift meets the budget, the one of the least cost is taken.

    Args:
        dynamic: its policy is changed.
        batches: images of the training mixture, uint8, each (N, C, H, W).

    Returns:
        Number of images passed through the network, counting each time.
    """
    passes = 0
    policy, before = dynamic.policy, dynamic.budget
    reach = float(policy.widths[-1] - policy.widths[0] + 1)
    with eval_mode(dynamic.network):
        for knot, budget in enumerate(policy.knots):
            dynamic.budget = budget
            low, high, best = -reach, reach, -reach
            shift = 0.0
            for _ in range(_HALVINGS):
                policy.shift[knot] = shift
                cost = dynamic.mean_cost(batches)
                passes += 1
                if cost <= budget:
                    low, best = shift, shift
                    if cost >= budget * (1 - _CLOSE):
                        break
                else:
                    high = shift
                shift = (low + high) / 2
            policy.shift[knot] = best
    dynamic.budget = before
    return passes * sum(len(images) for images in batches)
