"""Policies that are told something wrong, to see what following the image is worth."""

from typing import Protocol

import torch
from torch import Tensor

from agents.hybrid.deployed import DynamicNetwork
from dqmq_env.evaluation.deployed import Prediction
from dqmq_env.quality import describe
from dqmq_env.randomness import torch_generator


class Probe(Protocol):
    """A network at work whose policy is misled."""

    def __call__(self, images: Tensor, own: Prediction) -> Prediction:
        """Classify uint8 images of shape (N, C, H, W), for which it says ``own`` if not misled."""
        ...


class DealtBits:
    """Gives each image the bits that the policy has for another image of its batch.

    Bits occur as often as before, so that the mean cost is the same; they do not fit the image.

    Args:
        network: whose policy is asked.
    """

    def __init__(self, network: DynamicNetwork) -> None:
        self._network = network
        self._generator = torch_generator("dealt bits")

    def __call__(self, images: Tensor, own: Prediction) -> Prediction:
        """See :class:`Probe`."""
        order = torch.randperm(len(images), generator=self._generator)
        bits = own.bits[order]
        return Prediction(self._network.at_bits(images, bits), own.cost[order], bits)


class DealtGrids:
    """Rounds each image on the grids that are made for another image of its batch.

    Args:
        network: whose grids follow the image; each image has its own bits.
    """

    def __init__(self, network: DynamicNetwork) -> None:
        self._network = network
        self._generator = torch_generator("dealt grids")

    def __call__(self, images: Tensor, own: Prediction) -> Prediction:
        """See :class:`Probe`."""
        others = images[torch.randperm(len(images), generator=self._generator)]
        return Prediction(self._network.at_bits(images, own.bits, others), own.cost, own.bits)


class WrongQuality:
    """Describes each image to the policy as another image of its batch, or as their average.

    What the policy sees of activations stays right.

    Args:
        network: whose policy is misled.
        hidden: ``True`` describes all images as their average.
    """

    def __init__(self, network: DynamicNetwork, hidden: bool) -> None:
        self._network, self._hidden = network, hidden
        self._generator = torch_generator("wrong quality")

    def __call__(self, images: Tensor, own: Prediction) -> Prediction:
        """See :class:`Probe`."""
        before = self._network.describe
        self._network.describe = self._misled
        try:
            return self._network(images)
        finally:
            self._network.describe = before

    def _misled(self, images: Tensor) -> Tensor:
        quality = describe(images)
        if self._hidden:
            return quality.mean(0, keepdim=True).expand_as(quality)
        return quality[torch.randperm(len(quality), generator=self._generator)]
