"""What distinguishes one forward pass from another."""

from typing import NamedTuple

from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import LayerBits


class PassKey(NamedTuple):
    """A pass over a batch of images, up to some layer.

    Attributes:
        split: ``search`` or ``test``.
        condition: what the images went through.
        batch: index of the batch in its split.
        bits: of the layers computed so far, in forward order.
    """

    split: str
    condition: Condition
    batch: int
    bits: tuple[LayerBits, ...] = ()

    def extended(self, bits: LayerBits) -> "PassKey":
        """The pass one layer further on."""
        return self._replace(bits=(*self.bits, bits))
