"""Fit what a policy forecasts of losses to losses that were measured at every width.

The quantised network is a model of the environment that can be asked what would have happened: each
training image passes through it once at every width. A regression of these losses on what the
policy sees has none of the noise of draws that a gradient of the choice has; the choice itself is
then the least of loss and price, and its price is found by halving.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.hybrid.deployed import DynamicNetwork
from agents.hybrid.heads import ValueHead
from agents.hybrid.view import Look
from dqmq_env.quality.batches import Batch
from dqmq_env.quantization.choice import LayerChoice
from dqmq_env.quantization.surgery import eval_mode
from dqmq_env.randomness import torch_generator

_PASSES = 60
_BATCH = 500
_RATE = 5e-3
_DECAY = 1e-3
_LARGEST = 4.0
"""Losses in nats are cut off here, so that a few hopeless images do not count for most."""


def fit_values(dynamic: DynamicNetwork, batches: Sequence[Batch], seed: int) -> int:
    """Set what the policy of a network sees with, and its values.

    Args:
        dynamic: its policy is changed; one decision is about the whole network.
        batches: training images of mixed quality.
        seed: of the order in which images are fitted.

    Returns:
        Number of images passed through the network, counting each time.
    """
    policy = dynamic.policy
    head = policy.head
    assert isinstance(head, ValueHead)
    cost = torch.stack(dynamic.costing.choices).sum(0)
    head.costs.copy_((cost - cost[0]) / (cost[-1] - cost[0]))
    head.fitted.fill_(True)
    found = [_measured(dynamic, batch) for batch in batches]
    looks = [own for rows, _ in found for own in rows]
    losses = torch.cat([own for _, own in found]).clamp(max=_LARGEST)
    wanted = losses - losses.mean(1, keepdim=True)
    quality = torch.cat([own.quality for own in looks])
    statistics = torch.cat([own.statistics for own in looks])
    pooled = [own.channels for own in looks if own.channels is not None]
    channels = torch.cat(pooled) if pooled else None
    parameters = [*policy.view.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=_DECAY)
    count = len(wanted)
    steps = _PASSES * max(1, count // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    generator = torch_generator(seed, "values")
    budget = policy.place(quality.new_full((min(_BATCH, count),), dynamic.budget))
    for _ in range(steps):
        chosen = torch.randint(count, budget.shape, generator=generator).to(quality.device)
        look = Look(
            quality[chosen],
            statistics[chosen],
            None if channels is None else channels[chosen],
        )
        seen, _ = policy.view.embed(0, look, budget, None)
        error = F.mse_loss(head.values(0, seen), wanted[chosen])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()
    return count * len(policy.widths)


@torch.no_grad()
def _measured(dynamic: DynamicNetwork, batch: Batch) -> tuple[list[Look], Tensor]:
    """What the policy sees of the images of a batch, and their losses at each width (N, K)."""
    policy, layers = dynamic.policy, dynamic.network.layers
    quality = dynamic.describe(batch.images)
    groups = 1 if dynamic.granularity == "batch" else len(quality)
    quality = quality.unflatten(0, (groups, -1)).mean(1)
    first = next(layer.index for layer in layers if len(layer.options) > 1)
    looks: list[Look] = []
    losses = []
    with eval_mode(dynamic.network):
        for place in range(len(policy.widths)):

            def choose(index: int, activation: Tensor, place: int = place) -> LayerChoice:
                layer = layers[index]
                if index == first and not looks:
                    reach = layer.activation_range
                    looks.append(policy.view.look(0, quality, activation, reach))
                return layer.options[place if len(layer.options) > 1 else 0]

            logits = dynamic.network(dynamic.normalize(batch.images), choose)
            own = F.cross_entropy(logits, batch.labels, reduction="none")
            losses.append(own.unflatten(0, (groups, -1)).mean(1))
    return looks, torch.stack(losses, 1)
