"""The policy at work inside a forward pass: it looks, it chooses, it keeps account."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.hybrid.costing import Costing
from agents.hybrid.eyes import Scene
from agents.hybrid.gradient import Gradient
from agents.hybrid.heads import Drawn
from agents.hybrid.policy import BitPolicy
from dqmq_env.quantization.choice import LayerChoice, RelaxedBits
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.task.budget import ROUNDING


@dataclass(frozen=True)
class Sampling:
    """How decisions are drawn in training.

    Attributes:
        gradient: of the choice.
        generator: of the draws, on the CPU.
    """

    gradient: Gradient
    generator: torch.Generator


class Controller:
    """Chooses bits for groups of images while they pass through the network.

    An instance serves one forward pass.

    Args:
        policy: gives probabilities.
        network: the network that is passed through.
        costing: keeps account.
        scene: what is seen of each of G groups before the network.
        budget: of each group, as a fraction of the cost at 8 bits, shape (G,).
        temperature: of the policy.
        sampling: without it the most probable width is taken, and the policy gets no gradient.
        limit: bound on the cost of each group, shape (G,), kept by leaving out widths that would
            make it unreachable; where it is out of reach from the start, the lowest are taken.
        order: for each group, the one whose decisions it gets, int64 (G,); its own when left out.

    Attributes:
        expected_cost: of each group, shape (G,).
        bits: taken, of each layer, shape (G, layers).
        log_probability: of all that was drawn, of each group, where the gradient asks for it.
    """

    def __init__(
        self,
        policy: BitPolicy,
        network: QuantizedNetwork,
        costing: Costing,
        scene: Scene,
        budget: Tensor,
        temperature: float,
        sampling: Sampling | None = None,
        limit: Tensor | None = None,
        order: Tensor | None = None,
    ) -> None:
        self._policy, self._costing = policy, costing
        self._scene, self._budget, self._temperature = scene, budget, temperature
        self._sampling, self._limit, self._order = sampling, limit, order
        self._layers = network.layers
        self._memory: Tensor | None = None
        self._rung: Drawn | None = None
        self._decision = 0
        self._spent = torch.full_like(budget, costing.pinned)
        self.expected_cost = self._spent
        self.bits = torch.zeros(len(budget), len(self._layers), dtype=torch.int64)
        self.log_probability: Tensor | None = None

    def __call__(self, index: int, activation: Tensor) -> LayerChoice:
        """Bits of a layer for each group; see :data:`~dqmq_env.quantization.choice.Chooser`."""
        layer = self._layers[index]
        if len(layer.options) == 1:
            self.bits[:, index] = layer.widths[0]
            return layer.options[0]
        cost = self._costing.tables[index].to(self._budget)
        drawn = self._drawn(activation, layer)
        with self._learning():
            self.expected_cost = self.expected_cost + drawn.probabilities @ cost
        self._decision += 1
        self._spent = self._spent + cost[drawn.sample]
        self.bits[:, index] = torch.tensor(layer.widths)[drawn.sample.cpu()]
        return self._given(drawn)

    def _drawn(self, activation: Tensor, layer: QuantizedLayer) -> Drawn:
        """The decision about a layer: its own, or what the one about the network is for it."""
        if not self._policy.once:
            return self._draw(activation, layer)
        if self._rung is None:
            self._rung = self._draw(activation, layer)
        rung, number = self._rung, self._decision
        places = self._policy.rungs[:, number].to(rung.sample.device)
        of_width = F.one_hot(places, len(layer.options)).to(rung.probabilities)
        probabilities = rung.probabilities @ of_width
        alike = rung.relaxed is rung.probabilities
        relaxed = probabilities if alike else rung.relaxed @ of_width
        return Drawn(probabilities, relaxed, self._policy.places(number, rung.sample))

    def _draw(self, activation: Tensor, layer: QuantizedLayer) -> Drawn:
        """Look, and decide."""
        with self._learning():
            look = self._policy.view.look(
                self._decision, self._scene, activation, layer.activation_range
            )
            drawn, self._memory = self._policy.draw(
                self._decision,
                look,
                self._budget,
                self._memory,
                self._temperature,
                None if self._sampling is None else self._sampling.generator,
                self._allowed(),
            )
            if self._order is not None:
                drawn = drawn.take(self._order)
            self._note(drawn)
        return drawn

    def _learning(self) -> AbstractContextManager[None]:
        """Within it the policy gets its gradients where it learns, whether the network does or not.

        Where it is at work alone, nothing is switched: an exporter would cut the graph there.
        """
        return nullcontext() if self._sampling is None else torch.enable_grad()

    def _given(self, drawn: Drawn) -> RelaxedBits:
        """What the layer computes with."""
        if self._sampling is None:
            return RelaxedBits(drawn.relaxed.detach(), drawn.sample)
        return self._sampling.gradient.bits(drawn, self._sampling.generator)

    def _note(self, drawn: Drawn) -> None:
        """Keep the probability of what was drawn, where it is asked for."""
        own = None if self._sampling is None else self._sampling.gradient.log_probability(drawn)
        if own is not None:
            before = self.log_probability
            self.log_probability = own if before is None else before + own

    def _allowed(self) -> Tensor | None:
        """What leaves the limit within reach, shape (G, K); the lowest always does."""
        if self._limit is None:
            return None
        if self._policy.once:
            cost, room = torch.tensor(self._costing.of_network), self._limit
        else:
            cost = self._costing.choices[self._decision]
            room = self._limit - self._spent - self._costing.lowest_after[self._decision]
        allowed = cost.to(self._budget) <= room[:, None] + ROUNDING
        allowed[:, 0] = True
        return allowed

    def cost(self) -> Tensor:
        """What the bits that were taken cost, controller included, shape (G,)."""
        return self._spent.cpu()
