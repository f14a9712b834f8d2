"""After training: statistics of batch norms, and the budget, under the decisions without draws."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.hybrid.average_cost import average_cost
from agents.hybrid.deployed import DynamicNetwork
from dqmq_env.quantization.alignment import Alignment
from dqmq_env.quantization.surgery import eval_mode

_HALVINGS = 12
_CLOSE = 0.002
_NEAR = 0.05
"""Bits within which a shift is first looked for where one is known for a budget just below."""


@torch.no_grad()
def measure_batch_norms(
    dynamic: DynamicNetwork, batches: Sequence[Tensor], generator: torch.Generator
) -> int:
    """Set the statistics of batch norms to what the images of some batches give, all alike.

    Where many budgets are learned images have all of them, as in training: norms that are measured
    at the highest one do not fit the lowest.

    Args:
        dynamic: its network is changed; its batch norms are not folded.
        batches: images of the training mixture, uint8, each (N, C, H, W).
        generator: draws budgets, where there are many.

    Returns:
        Number of images passed through the network.
    """
    modules = dynamic.network.modules()
    norms = [own for own in modules if isinstance(own, nn.BatchNorm2d | Alignment)]
    before = [(norm.momentum, norm.training) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over batches
        norm.train()
    for images in batches:
        groups = len(images) if dynamic.granularity == "image" else 1
        dynamic.run(images, dynamic.policy.budgets.drawn(groups, generator).to(images.device))
    for norm, (momentum, training) in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.train(training)
    return sum(len(images) for images in batches)


def meet_budget(dynamic: DynamicNetwork, batches: Sequence[Tensor]) -> int:
    """Shift where the policy starts so that the average cost comes up to each budget from below.

    Without draws the average differs a little from what was expected in training. The shift, in
    bits, is found by halving, from the second knot on near where the policy starts at the one
    before; where no shift meets the budget, the one of the least cost is taken.

    Args:
        dynamic: its policy is changed.
        batches: images of the training mixture, uint8, each (N, C, H, W).

    Returns:
        Number of images passed through the network, counting each time.
    """
    policy, before = dynamic.policy, dynamic.budget
    reach = policy.levels[-1] - policy.levels[0] + 1
    policy.raises.zero_()
    with eval_mode(dynamic.network):
        costs = average_cost(dynamic, batches)
        for knot, budget in enumerate(policy.budgets.knots):
            dynamic.budget = budget
            low, high, best = -reach, reach, -reach
            shift, step = 0.0, reach
            if knot:  # from where the policy starts at the budget before
                anchors, step = policy.anchors, _NEAR
                shift = float(policy.shift[knot - 1] + anchors[knot - 1] - anchors[knot])
                policy.raises[knot] = policy.raises[knot - 1]
            while high - low > 2 * reach / 2**_HALVINGS:
                policy.shift[knot] = shift
                cost = costs.mean()
                if cost <= budget:
                    low, best = shift, shift
                    if cost >= budget * (1 - _CLOSE):
                        break
                    shift = min((low + high) / 2, shift + step)
                else:
                    high = shift
                    shift = max((low + high) / 2, shift - step)
                step *= 2
            policy.shift[knot] = best
            costs.spend_rest(knot)
    dynamic.budget = before
    return costs.images
