"""The policy network: from image quality and activations to a distribution over bits."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.hybrid.distribution import discretized_logistic
from dqmq_env.evaluation.statistic_table import ACTIVATION_STATISTICS
from dqmq_env.quality import DESCRIPTOR_NAMES

FEATURES = len(DESCRIPTOR_NAMES) + len(ACTIVATION_STATISTICS)

_FLOAT_BOPS = 32 * 32


class BitPolicy(nn.Module):
    """One location and one scale for each decision, moved by what is seen of the images.

    An encoder shared by all decisions turns the quality descriptor and the statistics of the
    activation at hand into ``embedding`` numbers, the embedding e; each decision l has a base, a
    gain for each of these numbers, and a scale::

        e = tanh(W [quality, activation] + b)
        location_l = low + (high - low) * sigmoid(base_l + gain_l . e)

    Args:
        decisions: D, number of decisions.
        widths: candidate bits, ascending.
        embedding: size of the shared embedding.
    """

    def __init__(self, decisions: int, widths: Sequence[int], embedding: int = 8) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.encoder = nn.Linear(FEATURES, embedding)
        self.base = nn.Parameter(torch.zeros(decisions))
        self.gain = nn.Parameter(torch.randn(decisions, embedding) * 0.1)
        self.log_scale = nn.Parameter(torch.zeros(decisions))

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest location: half a bit beyond the outermost widths."""
        return self.widths[0] - 0.5, self.widths[-1] + 0.5

    @torch.no_grad()
    def start_at(self, location: float) -> None:
        """Set the base of every decision so that its location is about ``location`` bits."""
        low, high = self.bounds
        share = (location - low) / (high - low)
        self.base.fill_(math.log(share / (1 - share)))

    def location(self, decision: int, quality: Tensor, activation: Tensor) -> Tensor:
        """The location in bits of each group, shape (G,).

        Args:
            decision: its number, from 0.
            quality: quality descriptors in [0, 1], shape (G, 6).
            activation: activation statistics in [0, 1], shape (G, 4).
        """
        # features lie in [0, 1]; centred and doubled they fill the encoder's range
        features = 2 * torch.cat([quality, activation], 1) - 1
        seen = torch.tanh(self.encoder(features))
        low, high = self.bounds
        raw = self.base[decision] + seen @ self.gain[decision]
        return low + (high - low) * torch.sigmoid(raw)

    def probabilities(
        self, decision: int, quality: Tensor, activation: Tensor, temperature: float
    ) -> Tensor:
        """Probabilities of the widths for each group, shape (G, K).

        Args:
            decision: its number, from 0.
            quality: shape (G, 6).
            activation: shape (G, 4).
            temperature: factor on the scale; towards zero the distribution becomes one-hot.
        """
        location = self.location(decision, quality, activation)
        scale = F.softplus(self.log_scale[decision]) * temperature
        return discretized_logistic(location, scale, self.widths)

    def bops(self) -> int:
        """Bit operations for the decisions about one image, as float multiply-accumulates."""
        decisions, embedding = self.gain.shape
        return decisions * (FEATURES * embedding + embedding) * _FLOAT_BOPS
