"""The controller at work inside a forward pass."""

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.dqnet.controller import Controller
from baselines.dqnet.layout import Layout
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.choice import ImageBits, LayerChoice, RelaxedBits
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.network import QuantizedNetwork


class ControlledPass:
    """Tells layers their bits in one forward pass; see what derives from it.

    Args:
        network: what is passed through.
        layout: which layers are decided about.
        controller: looks at what the first of them receives.

    Attributes:
        chosen: which of the choices each layer got, int64 (N, D), once it is known.
    """

    chosen: Tensor

    def __init__(self, network: QuantizedNetwork, layout: Layout, controller: Controller) -> None:
        self._layers, self._layout, self._controller = network.layers, layout, controller

    def __call__(self, index: int, activation: Tensor) -> LayerChoice:
        """Bits of a layer; see :data:`~dqmq_env.quantization.choice.Chooser`."""
        layer = self._layers[index]
        if index in self._layout.fixed:
            return layer.options[self._layout.fixed[index]]
        number = self._layout.controlled.index(index)
        if number == 0:
            self._decide(activation)
        return self._bits(number, layer)

    def bits(self) -> Tensor:
        """Bits of each image's layers, as predictions have them, int64 (N, layers)."""
        bits = torch.zeros(len(self.chosen), len(self._layers), dtype=torch.int64)
        for index, place in self._layout.fixed.items():
            bits[:, index] = self._layers[index].widths[place]
        bits[:, list(self._layout.controlled)] = torch.tensor(self._layout.widths)[self.chosen]
        return bits

    def _decide(self, activation: Tensor) -> None:
        raise NotImplementedError

    def _bits(self, number: int, layer: QuantizedLayer) -> LayerChoice:
        raise NotImplementedError


class SettledPass(ControlledPass):
    """Each image gets the bits of the highest logits; nothing is drawn."""

    def _decide(self, activation: Tensor) -> None:
        self.chosen = self._controller(activation).argmax(2)

    def _bits(self, number: int, layer: QuantizedLayer) -> LayerChoice:
        first = self._layout.choices.start
        options: list[LayerBits] = [
            layer.options[first + own] for own in self.chosen[:, number].tolist()
        ]
        return ImageBits(tuple(options))


class DrawnPass(ControlledPass):
    """Bits are drawn by hard Gumbel-softmax; gradients pass straight through.

    With Gumbel noise g, an image's bits are those of the largest ``logit + noise * g``. Gradients
    go to ``softmax((logits + noise * g) / temperature)``.

    Args:
        network: what is passed through.
        layout: which layers are decided about.
        controller: looks at what the first of them receives.
        temperature: of the softmax.
        noise: factor on the Gumbel noise.
        generator: of noise and dropout.

    Attributes:
        one_hot: what was chosen, with the gradient of the softmax, shape (N, D, C).
    """

    one_hot: Tensor

    def __init__(
        self,
        network: QuantizedNetwork,
        layout: Layout,
        controller: Controller,
        temperature: float,
        noise: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__(network, layout, controller)
        self._temperature, self._noise, self._generator = temperature, noise, generator

    def _decide(self, activation: Tensor) -> None:
        logits = self._controller(activation, self._generator)
        exponential = torch.empty_like(logits).exponential_(generator=self._generator)
        scores = logits - self._noise * exponential.log()
        self._soft = (scores / self._temperature).softmax(2)
        self.chosen = scores.argmax(2)
        hard = F.one_hot(self.chosen, len(self._layout.choices)).to(self._soft)
        self.one_hot = hard + self._soft - self._soft.detach()

    def _bits(self, number: int, layer: QuantizedLayer) -> LayerChoice:
        choices, count = self._layout.choices, len(layer.options)
        probabilities = F.pad(self._soft[:, number], (choices.start, count - choices.stop))
        return RelaxedBits(probabilities, choices.start + self.chosen[:, number])
