"""Other ways to compute a quantised layer where no gradients are asked for."""

from typing import Protocol

from torch import Tensor

from dqmq_env.quantization.assignment import LayerBits


class Kernel(Protocol):
    """Computes one layer as fake quantisation does, but for the rounding of floats."""

    def takes(self, bits: LayerBits) -> bool:
        """Whether it can at these bits."""
        ...

    def __call__(self, x: Tensor, bits: LayerBits) -> Tensor:
        """The layer's output for its float input ``x`` (N, ...)."""
        ...
