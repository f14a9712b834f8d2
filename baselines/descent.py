"""Layers that step down their candidates: where each stands, and how likely it is to stay."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from baselines.relaxed_search import lowered_to_fit
from dqmq_env.quantization.choice import LayerChoice, RelaxedBits
from dqmq_env.search.space import Places, Space

# further out, the slope of the logistic function hardly lets a probability come back
_HIGHEST_LOGIT = 3.0


class Descent:
    """The candidate that each decided layer stands on, and the logit of its beta.

    Beta is the probability that the layer computes with the candidate it stands on; else it does
    with the next lower one. It means nothing for a layer that stands on its lowest.

    Args:
        space: gives the layers and their candidates; all begin at the highest.
        start: beta of a layer that has just come to a candidate.

    Attributes:
        places: of the candidates stood on, one for each decided layer.
        logits: of beta, shape (layers,).
    """

    def __init__(self, space: Space, start: float) -> None:
        self.space = space
        self.places = [size - 1 for size in space.sizes]
        self._first = float(np.log(start / (1 - start)))
        self.logits = torch.full((len(self.places),), self._first, requires_grad=True)

    @property
    def betas(self) -> Tensor:
        """Probability to stay, shape (layers,)."""
        return self.logits.sigmoid()

    @property
    def open(self) -> list[int]:
        """The layers that have a lower candidate."""
        return [layer for layer, place in enumerate(self.places) if place > 0]

    def savings(self) -> NDArray[np.float64]:
        """What moving down saves of the network's cost, shape (layers,); 0 at the lowest."""
        pairs = zip(self.space.costs, self.places, strict=True)
        return np.array([costs[place] - costs[max(place - 1, 0)] for costs, place in pairs])

    def draw(self, temperature: float, generator: torch.Generator) -> Tensor:
        """For each layer a relaxed draw between moving down and staying, shape (layers, 2).

        Jang et al. 2017 (Categorical Reparameterization with Gumbel-Softmax), equation 2.
        """
        logits = torch.stack([F.logsigmoid(-self.logits), F.logsigmoid(self.logits)], 1)
        exponential = torch.empty_like(logits).exponential_(generator=generator)
        return ((logits - exponential.clamp_min(1e-20).log()) / temperature).softmax(1)

    def choice(self, layer: int, drawn: Tensor) -> LayerChoice:
        """The bits of a layer, given its row (2,) of :meth:`draw`: the likelier of the two."""
        place, options = self.places[layer], self.space.options[layer]
        if place == 0:
            return options[0]
        probabilities = F.pad(drawn, (place - 1, len(options) - 1 - place))[None]
        return RelaxedBits(probabilities, probabilities.detach().argmax(1))

    @torch.no_grad()
    def move(self, rate: float, gradient: Tensor) -> None:
        """Take a step against the gradient of the logits (layers,)."""
        self.logits.sub_(rate * gradient).clamp_(max=_HIGHEST_LOGIT)

    def falling(self, threshold: float) -> list[int]:
        """The layers that can move down and whose beta is below ``threshold``, the lowest first."""
        betas = self.betas.tolist()
        return sorted((n for n in self.open if betas[n] < threshold), key=betas.__getitem__)

    @torch.no_grad()
    def lower(self, layer: int) -> None:
        """Move a layer to the next lower candidate, where a new beta begins."""
        self.places[layer] -= 1
        self.logits[layer] = self._first

    def fitting(self) -> Places:
        """The places, lowered to the budget by ascending beta, each layer once in every round."""
        betas, places = self.betas.tolist(), np.array(self.places)
        return lowered_to_fit(
            self.space, places, lambda n, place, _: float(places[n] - place) + betas[n]
        )
