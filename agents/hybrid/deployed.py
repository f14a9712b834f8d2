"""A trained hybrid agent at work: images in, classes and what they cost out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.hybrid.controller import Controller
from agents.hybrid.costing import Costing
from agents.hybrid.policy import BitPolicy
from agents.hybrid.settings import HybridSettings
from dqmq_env.evaluation.deployed import Prediction
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.quality import describe
from dqmq_env.quantization.network import QuantizedNetwork


class DynamicNetwork:
    """A quantised network whose bits follow each image, or each batch, under a budget.

    Args:
        network: trained; batch normalisation may be folded.
        policy: trained with it.
        costing: of its layers.
        settings: those of the training.
        granularity: ``image`` decides for each image; ``batch`` and ``static`` for all at once.
        normalize: from images to the network's input.
        budget: on average, as a fraction of the BOPs at 8 bits.

    Attributes:
        budget: may be changed between calls where the policy was trained for many.
    """

    def __init__(
        self,
        network: QuantizedNetwork,
        policy: BitPolicy,
        costing: Costing,
        settings: HybridSettings,
        granularity: str,
        normalize: Normalize,
        budget: float,
    ) -> None:
        self.network, self.policy, self.budget = network, policy, budget
        self._costing, self._settings, self._granularity = costing, settings, granularity
        self._normalize = normalize

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Prediction:
        """Classify uint8 images of shape (N, C, H, W)."""
        device = self.policy.shift.device
        logits, controller = self.run(images.to(device))
        repeats = len(images) // len(controller.bits)
        cost = controller.cost().repeat_interleave(repeats)
        return Prediction(logits.cpu(), cost, controller.bits.repeat_interleave(repeats, 0))

    def run(self, images: Tensor, budget: Tensor | None = None) -> tuple[Tensor, Controller]:
        """Logits (N, classes), and the controller that took the decisions.

        Args:
            images: uint8, shape (N, C, H, W).
            budget: in place of :attr:`budget`, shape (1,).
        """
        quality = describe(images)
        if self._granularity != "image":
            quality = quality.mean(0, keepdim=True)
        if budget is None:
            budget = quality.new_full((1,), self.budget)
        budget = budget.expand(len(quality))
        controller = Controller(
            self.policy,
            self.network,
            self._costing,
            quality,
            budget,
            self._settings.last_temperature,
            limit=budget if self._settings.hold == "image" else None,
        )
        return self.network(self._normalize(images), controller), controller

    @torch.no_grad()
    def mean_cost(self, batches: Sequence[Tensor]) -> float:
        """The average cost of the images of some batches, each uint8 (N, C, H, W)."""
        costs = [self.run(images)[1].cost().mean() for images in batches]
        return float(torch.stack(costs).mean())
