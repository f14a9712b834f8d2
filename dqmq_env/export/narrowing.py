"""Weights stored once, at their widest, from which narrower ones are derived."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dqmq_env.quantization.dorefa import DoReFa
from dqmq_env.quantization.grid import Grid
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.quantizers import quantize_to_codes
from dqmq_env.quantization.rounded import RoundedWeights


class NestedWeights(RoundedWeights):
    """Rounded weights that know by which steps narrower codes follow from wider ones.

    Args:
        codes: see :class:`~dqmq_env.quantization.rounded.RoundedWeights`.
        scale: likewise.
        bias: likewise.
        rounding: width to steps, shape (O,) or (1,).
    """

    def __init__(
        self, codes: Tensor, scale: Tensor, bias: Tensor, rounding: Mapping[int, Tensor]
    ) -> None:
        super().__init__(codes, scale, bias)
        self.rounding = dict(rounding)


@torch.no_grad()
def rounding_steps(layer: QuantizedLayer, width: int) -> Tensor:
    """The steps by which a layer rounds weights to ``width``, shape (O,) or (1,).

    They are the layer's own. Schemes that squash weights first, DoReFa's and PACT's, round what
    lies in [-1, 1], whatever the step that they multiply the codes by.
    """
    if isinstance(layer.rounded, NestedWeights):
        return layer.rounded.rounding[width]
    if isinstance(layer.scheme, DoReFa) and layer.rounded is None:
        return torch.tensor([2 / (2**width - 1)])
    return layer.weight_log_step[layer.candidates.index(width)].detach().exp()


def narrowed(
    codes: Tensor, grid: Grid, steps: Tensor, narrow: Grid, narrow_steps: Tensor
) -> Tensor:
    """Codes on a narrow grid, nearest to what codes on a wide one stand for.

    Args:
        codes: on the wide grid, int8, shape (O, C).
        grid: the wide one.
        steps: of the wide grid, shape (O,) or (1,).
        narrow: the narrow grid.
        narrow_steps: of the narrow grid, shape (O,) or (1,).

    Returns:
        int8, shape (O, C).
    """
    values = (codes.float() + grid.offset) * steps[:, None]
    return quantize_to_codes(values, narrow_steps[:, None], narrow).to(torch.int8)
