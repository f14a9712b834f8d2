"""Bring a policy to rest: what it knows is fitted, norms are measured, and the budget is met."""

from collections.abc import Sequence

import torch

from agents.hybrid.deployed import DynamicNetwork
from agents.hybrid.heads import ValueHead
from agents.hybrid.settings import HybridSettings
from agents.hybrid.settle import measure_batch_norms, meet_budget
from agents.hybrid.values import Forecast, Losses, Measured, fit_values
from agents.hybrid.view import joined
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.batches import Batch, MixedQualityBatches
from dqmq_env.randomness import derive_seed, torch_generator
from dqmq_env.training.loop import Schedule

_AUGMENTED = 2
_RARE = 0.01
"""A rung that fewer of the images are given is not trained enough to be measured."""
_SEEN = 16
"""Batches of images that tell which rungs are in use."""


class Rest:
    """What is done when a policy has learned, and when its network has.

    Args:
        dynamic: the network in training with its policy, at the highest budget; both are changed.
        problem: gives images and the float network.
        settings: of the policy.
        schedule: gives batches and the seed.
        device: of the network.
    """

    def __init__(
        self,
        dynamic: DynamicNetwork,
        problem: NetworkProblem,
        settings: HybridSettings,
        schedule: Schedule,
        device: torch.device,
    ) -> None:
        self._dynamic, self._problem, self._settings = dynamic, problem, settings
        self._schedule, self._device = schedule, device

    def learn(self) -> int:
        """Learn what is learned at rest, then settle; returns images passed."""
        head = self._dynamic.policy.head
        if not isinstance(head, ValueHead):
            return self.settle()
        # norms are those of the decisions that weights were trained at, and not of new ones
        passed = self._measure_norms() if head.fitted else 0
        # a short training has a short search
        count = min(self._settings.value_images, self._schedule.trained_images)
        batches = self._batches("values", count, shift=0)
        losses, looked = self._losses(head, batches[:_SEEN])
        fit_values(self._dynamic, batches, losses, self._schedule.seed)
        return passed + looked + losses.images + self._meet_budget()

    def settle(self) -> int:
        """Make network and budget right for decisions without draws; returns images passed."""
        return self._measure_norms() + self._meet_budget()

    def _losses(self, head: ValueHead, batches: Sequence[Batch]) -> tuple[Losses, int]:
        """What values are fitted to, and the number of images passed to know which."""
        if head.fitted:
            places, looked = self._in_use(batches)
            return Measured(self._dynamic, places), looked
        near = self._dynamic.costing.within(self._settings.budgets, self._settings.reach)
        if self._settings.search_share:  # weights have learned at rungs that were drawn
            return Measured(self._dynamic, near), 0
        return Forecast(self._dynamic, self._problem.network, near), 0

    def _in_use(self, batches: Sequence[Batch]) -> tuple[list[int], int]:
        """Rungs that the network is trained at, and the number of images passed to know it."""
        dynamic, before = self._dynamic, self._dynamic.budget
        found = [dynamic.look(batch.images) for batch in batches]
        look = joined([own for own, _ in found])
        taken: set[int] = set()
        for budget in dynamic.policy.budgets.knots:
            dynamic.budget = budget
            taken.update((dynamic.shares_of(look) >= _RARE).nonzero()[:, 0].tolist())
        dynamic.budget = before
        return sorted(taken), sum(passed for _, passed in found)

    def _measure_norms(self) -> int:
        """Statistics of norms under the decisions as they are; returns images passed."""
        # weights have learned with the statistics of shifted images, and need those
        batches = self._batches("settle", self._settings.settle_images, _AUGMENTED)
        if not batches:
            return 0
        generator = torch_generator(self._schedule.seed, "norms")
        return measure_batch_norms(self._dynamic, [own.images for own in batches], generator)

    def _meet_budget(self) -> int:
        """Where the policy starts, so that the budget is met; returns images passed."""
        dynamic, count = self._dynamic, self._settings.settle_images
        if count and dynamic.looks_at_images_alone:  # where more of them cost nothing
            count = max(count, self._settings.value_images)
        # to shift an image makes it look harder, and values follow how it looks
        shift = 0 if isinstance(dynamic.policy.head, ValueHead) else _AUGMENTED
        batches = self._batches("settle", count, shift)
        if not batches:
            return 0
        return meet_budget(dynamic, [batch.images for batch in batches])

    def _batches(self, purpose: str, count: int, shift: int) -> list[Batch]:
        """Training images of mixed quality, as many whole batches as there are in ``count``."""
        size, seed = self._schedule.batch, self._schedule.seed
        batches = MixedQualityBatches(
            self._problem.data.train,
            self._problem.mixture,
            size,
            seed if purpose == "settle" else derive_seed(seed, purpose) % 2**31,
            shift,
            group=size if self._problem.granularity == "batch" else 1,
        )
        return [batches.at(step).to(self._device) for step in range(count // size)]
