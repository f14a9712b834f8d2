"""DoReFa (Zhou et al. 2016, DoReFa-Net: Training Low Bitwidth CNNs with Low Bitwidth Gradients).

The paper trains from scratch with weights and activations in [-1, 1] and [0, 1]. A network that has
been trained in float has other ranges, so here each layer is scaled, which a network whose layers
are rescaled, or followed by batch normalisation, cannot tell from the paper's.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dqmq_env.quantization.grid import Grid
from dqmq_env.quantization.quantizers import learned_quantize, quantize, straight_through

_SMALLEST = 1e-8


@dataclass(frozen=True)
class DoReFa:
    """Weights squashed by tanh, activations cut at a bound that does not change.

    Weights, k bits (equations 5 and 9): ``s (2 quantize_k(tanh(w) / (2 max|tanh(w)|) + 1/2) - 1)``
    with ``quantize_k(x) = round((2**k - 1) x) / (2**k - 1)``, whose gradient goes straight through.
    1 bit (equations 7 and 8): ``s * sign(w)``, the gradient of ``w`` being that of the output. The
    scale ``s`` of the layer is the one with the least squared error, so that the weights of a float
    network fit; at 1 bit it is the paper's ``E|w|``. No gradient goes through it.

    Activations: ``c * quantize_k(clip(x / c, 0, 1))``, straight through inside the range. The bound
    ``c``, 1 in the paper, is what calibration found for the width, and stays. Input that may be
    negative, such as the images, is rounded to the grid with a zero point that calibration found,
    which stays as well.
    """

    def weight_grid(self, bits: int) -> Grid:
        """See :class:`~dqmq_env.quantization.scheme.Scheme`: 2**k values, none of them zero."""
        return Grid(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0.5)

    def weight_terms(self, weight: Tensor, step: Tensor, bits: int) -> tuple[Tensor, Tensor]:
        """See :class:`~dqmq_env.quantization.scheme.Scheme`; ``step`` is not used."""
        if bits == 1:
            return weight, 2 * weight.detach().abs().mean().clamp_min(_SMALLEST)
        squashed = weight.tanh()
        unit = squashed / squashed.abs().max().clamp_min(_SMALLEST)
        spacing = unit.new_tensor(2 / (2**bits - 1))
        scale = _fitting_scale(weight, quantize(unit, spacing, self.weight_grid(bits)))
        return unit * scale, spacing * scale

    def weight(self, weight: Tensor, step: Tensor, bits: int) -> Tensor:
        """See :class:`~dqmq_env.quantization.scheme.Scheme`."""
        return straight_through(*self.weight_terms(weight, step, bits), self.weight_grid(bits))

    def input(self, x: Tensor, step: Tensor, grid: Grid, count: int) -> Tensor:
        """See :class:`~dqmq_env.quantization.scheme.Scheme`."""
        return learned_quantize(x, step.detach(), grid)

    def penalty(self, step: Tensor, grid: Grid) -> Tensor | float:
        """See :class:`~dqmq_env.quantization.scheme.Scheme`: none."""
        return 0.0


@torch.no_grad()
def _fitting_scale(weight: Tensor, rounded: Tensor) -> Tensor:
    """The factor on ``rounded`` that brings it nearest to the weight in squared error."""
    return ((weight * rounded).sum() / rounded.square().sum()).clamp_min(_SMALLEST)
