"""Fit what a policy forecasts of losses to losses that were measured at every width.

The quantised network is a model of the environment that can be asked what would have happened: each
training image passes through it once at every width. A regression of these losses on what the
policy sees has none of the noise of draws that a gradient of the choice has; the choice itself is
then the least of loss and price, and its price is found by halving.
"""

import copy
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.hybrid.deployed import DynamicNetwork
from agents.hybrid.heads import ValueHead
from agents.hybrid.view import Look, joined
from dqmq_env.quality.batches import Batch
from dqmq_env.quantization.surgery import eval_mode
from dqmq_env.randomness import torch_generator

_PASSES = 60
_BATCH = 500
_RATE = 5e-3
_DECAY = 1e-3
_LARGEST = 4.0
"""Losses in nats are cut off here, so that a few hopeless images do not count for most."""


class Losses(Protocol):
    """What a policy sees of images, and what they lose at each width.

    Attributes:
        images: that were passed through a network so far, counting each time.
        places: of the K rungs that losses are about.
    """

    images: int
    places: Sequence[int]

    def __call__(self, batch: Batch) -> tuple[Look, Tensor]:
        """A look at each of G groups, and their losses in nats, shape (G, K)."""
        ...


class Measured:
    """The images pass through the network once at every rung in use.

    Args:
        dynamic: a network with a policy, of which one decision is about the whole network.
        places: of the rungs that it was trained at.

    Attributes:
        images: see :class:`Losses`.
        places: see above.
    """

    def __init__(self, dynamic: DynamicNetwork, places: Sequence[int]) -> None:
        self._dynamic, self.places = dynamic, places
        self.images = 0

    @torch.no_grad()
    def __call__(self, batch: Batch) -> tuple[Look, Tensor]:
        """See :class:`Losses`."""
        with eval_mode(self._dynamic.network):
            found = [self._dynamic.at_place(batch.images, place) for place in self.places]
        self.images += len(self.places) * len(batch.images)
        losses = [F.cross_entropy(own, batch.labels, reduction="none") for _, own in found]
        groups = len(found[0][0].scene.quality)
        return found[0][0], torch.stack(losses, 1).unflatten(0, (groups, -1)).mean(1)


class Forecast:
    """Before anything is trained: images that the float network is unsure of lose more by rounding.

    The noise of rounding to b bits has a power of 4^-b; what it costs an image is taken to grow
    with the entropy of the float network's answer, ``loss_k = entropy * 4^-(b_k - b_0)``, with b_k
    the bits that cost as much as rung k in all layers. No labels are asked for.

    Args:
        dynamic: a network with a policy, of which one decision is about the whole network.
        network: the float one, in eval mode.
        places: of the rungs that are forecast.

    Attributes:
        images: see :class:`Losses`.
        places: see above.
    """

    def __init__(self, dynamic: DynamicNetwork, network: nn.Module, places: Sequence[int]) -> None:
        self._dynamic, self.places = dynamic, places
        self._network = copy.deepcopy(network).to(dynamic.policy.shift.device)
        self.images = 0

    @torch.no_grad()
    def __call__(self, batch: Batch) -> tuple[Look, Tensor]:
        """See :class:`Losses`."""
        with eval_mode(self._dynamic.network):
            look, passed = self._dynamic.look(batch.images)
        self.images += passed + len(batch.images)
        said = self._network(self._dynamic.normalize(batch.images)).log_softmax(1)
        entropy = -(said.exp() * said).sum(1).unflatten(0, (len(look.scene.quality), -1)).mean(1)
        bits = entropy.new_tensor(self._dynamic.costing.as_uniform)
        return look, entropy[:, None] * torch.pow(4.0, bits[0] - bits[list(self.places)])


def fit_values(
    dynamic: DynamicNetwork, batches: Sequence[Batch], losses_of: Losses, seed: int
) -> None:
    """Set what the policy of a network sees with, and its values.

    Args:
        dynamic: its policy is changed; one decision is about the whole network.
        batches: training images of mixed quality.
        losses_of: gives what values are fitted to.
        seed: of the order in which images are fitted.
    """
    policy = dynamic.policy
    head = policy.head
    assert isinstance(head, ValueHead)
    cost = torch.tensor(dynamic.costing.of_network)
    head.costs.copy_((cost - cost[0]) / (cost[-1] - cost[0]))
    head.fitted.fill_(True)
    places = list(losses_of.places)
    head.offered.zero_()
    head.offered[places] = True
    found = [losses_of(batch) for batch in batches]
    look = joined([own for own, _ in found])
    losses = torch.cat([own for _, own in found]).clamp(max=_LARGEST)
    wanted = losses - losses.mean(1, keepdim=True)
    head.base.data[0, places] = wanted.mean(0)
    if not policy.view.size:  # that is all that there is to learn for a blind policy
        return
    optimizer = torch.optim.AdamW(
        [*policy.view.parameters(), *head.parameters()], lr=_RATE, weight_decay=_DECAY
    )
    count = len(wanted)
    size = min(_BATCH, count)
    steps = _PASSES * max(1, count // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    generator = torch_generator(seed, "values")
    budget = policy.budgets.place(wanted.new_full((size,), dynamic.budget))
    for _ in range(steps):
        chosen = torch.randint(count, (size,), generator=generator).to(wanted.device)
        seen, _ = policy.view.embed(0, look.take(chosen), budget, None)
        error = F.mse_loss(head.values(0, seen)[:, places], wanted[chosen])
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()
