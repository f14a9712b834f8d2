"""After training: statistics of batch norms, and the budget, under the decisions without draws."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.hybrid.costing import Costing
from agents.hybrid.deployed import DynamicNetwork
from agents.hybrid.policy import BitPolicy
from agents.hybrid.view import blind_look, joined
from dqmq_env.quantization.alignment import Alignment
from dqmq_env.quantization.surgery import eval_mode

_HALVINGS = 12
_CLOSE = 0.002
_STEP = 0.05
"""Bits by which a decision is raised at a time."""


@torch.no_grad()
def measure_batch_norms(dynamic: DynamicNetwork, batches: Sequence[Tensor]) -> int:
    """Set the statistics of batch norms to what the images of some batches give, all alike.

    Args:
        dynamic: its network is changed; its batch norms are not folded.
        batches: images of the training mixture, uint8, each (N, C, H, W).

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
    dynamic.policy.raises.zero_()
    policy, before = dynamic.policy, dynamic.budget
    reach = policy.levels[-1] - policy.levels[0] + 1
    with eval_mode(dynamic.network):
        costs = _Looks(dynamic, batches) if dynamic.looks_once else _Passes(dynamic, batches)
        for knot, budget in enumerate(policy.knots):
            dynamic.budget = budget
            low, high, best = -reach, reach, -reach
            shift = 0.0
            for _ in range(_HALVINGS):
                policy.shift[knot] = shift
                cost = costs.mean()
                if cost <= budget:
                    low, best = shift, shift
                    if cost >= budget * (1 - _CLOSE):
                        break
                else:
                    high = shift
                shift = (low + high) / 2
            policy.shift[knot] = best
    dynamic.budget = before
    return costs.images


class _Passes:
    """Mean costs of images, which pass through the network each time."""

    def __init__(self, dynamic: DynamicNetwork, batches: Sequence[Tensor]) -> None:
        self._dynamic, self._batches = dynamic, batches
        self.images = 0

    def mean(self) -> float:
        self.images += sum(len(images) for images in self._batches)
        return self._dynamic.mean_cost(self._batches)


class _Looks:
    """The same where one look is all that costs follow from: the images pass once, if at all."""

    def __init__(self, dynamic: DynamicNetwork, batches: Sequence[Tensor]) -> None:
        self._dynamic = dynamic
        found = [dynamic.look(images) for images in batches]
        self._look = joined([look for look, _ in found])
        self.images = sum(passed for _, passed in found)

    def mean(self) -> float:
        return self._dynamic.cost_of(self._look)


def spend_rest(policy: BitPolicy, costing: Costing, temperature: float) -> None:
    """Raise single decisions as long as the budget is kept, for a policy that sees no images.

    Its bits are the same for all images, so that a shift of all decisions together moves the cost
    in steps, which leave up to a tenth of a budget unspent. The decision that is nearest to its
    next width is raised first.

    Args:
        policy: of granularity ``static``, its budgets met from below; it is changed.
        costing: of its layers.
        temperature: at work.
    """
    reach = round((policy.levels[-1] - policy.levels[0] + 1) / _STEP)
    for knot, budget in enumerate(policy.knots):
        places = _static_places(policy, budget, temperature)
        while True:
            nearest: tuple[int, int] | None = None
            for decision in range(len(places)):
                raised = [*places[:decision], places[decision] + 1, *places[decision + 1 :]]
                if raised[decision] == len(policy.levels) or costing.at(raised) > budget:
                    continue
                before = float(policy.raises[knot, decision])
                for steps in range(1, nearest[0] if nearest else reach + 1):
                    policy.raises[knot, decision] = before + steps * _STEP
                    if _static_places(policy, budget, temperature) == raised:
                        nearest = (steps, decision)
                        break
                policy.raises[knot, decision] = before
            if nearest is None:
                break
            policy.raises[knot, nearest[1]] += nearest[0] * _STEP
            places = _static_places(policy, budget, temperature)


@torch.no_grad()
def _static_places(policy: BitPolicy, budget: float, temperature: float) -> list[int]:
    """The most probable width of each decision, as its place."""
    blind = blind_look(policy.shift)
    at = policy.shift.new_full((1,), budget)
    found = []
    for decision in range(policy.decisions):
        drawn, _ = policy.draw(decision, blind, at, None, temperature)
        found.append(int(drawn.sample))
    return found
