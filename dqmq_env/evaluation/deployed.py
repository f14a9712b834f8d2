"""Trained networks as they are used: images in, classes and what they cost out."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dqmq_env.costs import Bops, fraction
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.network import QuantizedNetwork


@dataclass(frozen=True)
class Prediction:
    """What a deployed network says of N images.

    Attributes:
        logits: shape (N, classes).
        cost: of each image, as a fraction of the network's BOPs at 8 bits, with all that deciding
            about bits takes, shape (N,).
        bits: of each layer in forward order: of its weights, or of its input where decisions are
            about activations alone, shape (N, layers).
    """

    logits: Tensor
    cost: Tensor
    bits: Tensor


class Deployed(Protocol):
    """A network at work, with or without a policy."""

    def __call__(self, images: Tensor) -> Prediction:
        """Classify uint8 images of shape (N, C, H, W)."""
        ...


class StaticNetwork:
    """A quantised network under one assignment.

    Args:
        network: trained; a folded copy of it is kept.
        assignment: bits of every layer.
        normalize: from images to the network's input.
    """

    def __init__(
        self, network: QuantizedNetwork, assignment: BitAssignment, normalize: Normalize
    ) -> None:
        self.network = network.folded().cpu()
        self.assignment = assignment
        self.normalize = normalize
        self._cost = fraction(Bops(), network.specs, assignment)
        self._bits = torch.tensor(
            [
                own.activation if len(layer.candidates) == 1 < len(layer.options) else own.weight
                for layer, own in zip(network.layers, network.in_order(assignment), strict=True)
            ]
        )

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Prediction:
        """See :class:`Deployed`."""
        logits = self.network(self.normalize(images), self.assignment)
        cost = torch.full((len(images),), self._cost)
        return Prediction(logits, cost, self._bits.expand(len(images), -1))
