"""The network that looks at an image once, and says what bits its layers are to get."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FLOAT_BITS = 32


class Controller(nn.Module):
    """Average pooling, a hidden layer with ReLU and dropout, and a logit for each choice.

    Args:
        shape: of what it looks at, of one image: (C, H, W), or (C,), which is not pooled.
        layers: D, number of layers decided about.
        choices: C, what each of them has.
        pool: side of the grid that each channel is averaged to, where it is larger.
        hidden: size of the hidden layer.
        dropout: share of the hidden layer that is left out where there is a generator.
    """

    def __init__(
        self,
        shape: Sequence[int],
        layers: int,
        choices: int,
        pool: int,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self._outputs = (layers, choices)
        self._grid = _grid(shape, pool)
        self._dropout = dropout
        inputs = shape[0] * self._grid[0] * self._grid[1]
        self.hidden = nn.Linear(inputs, hidden)
        self.output = nn.Linear(hidden, layers * choices)

    def forward(self, activation: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits, shape (N, D, C).

        Args:
            activation: what the first layer decided about is to receive, shape (N, ...).
            generator: draws what is left out of the hidden layer; without it nothing is.
        """
        if activation.ndim == 4:
            activation = F.adaptive_avg_pool2d(activation, self._grid)
        hidden = F.relu(self.hidden(activation.flatten(1)))
        if generator is not None:
            kept = torch.rand(hidden.shape, generator=generator) >= self._dropout
            hidden = hidden * kept / (1 - self._dropout)
        logits: Tensor = self.output(hidden).unflatten(1, self._outputs)
        return logits


def controller_bops(shape: Sequence[int], outputs: int, pool: int, hidden: int) -> int:
    """Bit operations for one image, all in float.

    Pooling adds up each value (32 for an addition); the two layers take 32 x 32 for each
    multiply-accumulate.

    Args:
        shape: of what the controller looks at, of one image.
        outputs: number of logits.
        pool: see :class:`Controller`.
        hidden: see :class:`Controller`.
    """
    channels, *sides = shape
    height, width = _grid(shape, pool)
    inputs = channels * height * width
    pooling = channels * sides[0] * sides[1] * _FLOAT_BITS if len(sides) == 2 else 0
    return pooling + (inputs * hidden + hidden * outputs) * _FLOAT_BITS * _FLOAT_BITS


def _grid(shape: Sequence[int], pool: int) -> tuple[int, int]:
    sides = [min(pool, side) for side in shape[1:]]
    return (sides[0], sides[1]) if len(sides) == 2 else (1, 1)
