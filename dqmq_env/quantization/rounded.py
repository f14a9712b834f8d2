"""Weights rounded once, after training, with what makes up for their error."""

from typing import Any

import torch
from torch import Tensor, nn


class RoundedWeights(nn.Module):
    """Integer codes of a layer's weights at each width, and a scale and a bias for each bit pair.

    With K widths of the weights, A of the activations, O output channels and C weights in each, the
    layer computes ``scale * step * code`` in place of its weight and adds ``bias`` to its own. The
    last place among the activations' widths is that of float.

    Args:
        codes: int8, shape (K, O, C).
        scale: above zero, shape (K, A + 1, O).
        bias: shape (K, A + 1, O).
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, codes: Tensor, scale: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)
        self._levels: dict[int, tuple[int, Tensor]] = {}

    def levels(self, position: int, offset: float, weight: Tensor) -> Tensor:
        """The codes at a width, plus the grid's offset, in the form of a float weight.

        Args:
            position: of the width.
            offset: see :class:`~dqmq_env.quantization.grid.Grid`.
            weight: gives shape, type, device and memory layout.
        """
        version, kept = self._levels.get(position, (-1, weight))
        if (version, kept.dtype, kept.device) != (self.codes._version, weight.dtype, weight.device):
            kept = torch.empty_like(weight, requires_grad=False)
            kept.copy_(self.codes[position].view(weight.shape)).add_(offset)
            self._levels[position] = self.codes._version, kept
        return kept

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made again from the codes."""
        return {**self.__dict__, "_levels": {}}
