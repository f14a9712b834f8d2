"""The network that looks at an image once, and says what bits its layers are to get."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dqmq_env.quantization.channels import channels_second
from dqmq_env.quantization.spec import LayerSpec

_FLOAT_BITS = 32


class Controller(nn.Module):
    """Average pooling, a hidden layer with ReLU and dropout, and a logit for each choice.

    Args:
        spec: layer that is to receive what it looks at; tokens are averaged to one.
        layers: D, number of layers decided about.
        choices: C, what each of them has.
        pool: side of the grid that each channel is averaged to, where it is larger.
        hidden: size of the hidden layer.
        dropout: share of the hidden layer that is left out where there is a generator.
    """

    def __init__(
        self,
        spec: LayerSpec,
        layers: int,
        choices: int,
        pool: int,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self._outputs = (layers, choices)
        self._axis = spec.channel_axis
        self._grid = _grid(spec, pool)
        self._dropout = dropout
        inputs = spec.in_channels * math.prod(self._grid)
        self.hidden = nn.Linear(inputs, hidden)
        self.output = nn.Linear(hidden, layers * choices)

    def forward(self, activation: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits, shape (N, D, C).

        Args:
            activation: what the first layer decided about is to receive, shape (N, ...).
            generator: draws what is left out of the hidden layer; without it nothing is.
        """
        activation = channels_second(activation, self._axis)
        if activation.ndim == 4:
            activation = F.adaptive_avg_pool2d(activation, self._grid)
        elif activation.ndim == 3:
            activation = activation.mean(2)
        hidden = F.relu(self.hidden(activation.flatten(1)))
        if generator is not None:
            kept = torch.rand(hidden.shape, generator=generator) >= self._dropout
            hidden = hidden * kept / (1 - self._dropout)
        logits: Tensor = self.output(hidden).unflatten(1, self._outputs)
        return logits


def controller_bops(spec: LayerSpec, outputs: int, pool: int, hidden: int) -> int:
    """Bit operations for one image, all in float.

    Pooling adds up each value (32 for an addition); the two layers take 32 x 32 for each
    multiply-accumulate.

    Args:
        spec: layer that is to receive what the controller looks at.
        outputs: number of logits.
        pool: see :class:`Controller`.
        hidden: see :class:`Controller`.
    """
    inputs = spec.in_channels * math.prod(_grid(spec, pool))
    values = spec.in_channels * math.prod(spec.input_sides)
    pooling = values * _FLOAT_BITS if spec.input_sides else 0
    return pooling + (inputs * hidden + hidden * outputs) * _FLOAT_BITS * _FLOAT_BITS


def _grid(spec: LayerSpec, pool: int) -> tuple[int, int]:
    sides = [min(pool, side) for side in spec.input_sides]
    return (sides[0], sides[1]) if len(sides) == 2 else (1, 1)
