"""Energy of one image by counting operations; free of torch."""

import math
from dataclasses import dataclass

from dqmq_env.costs.cost import activations
from dqmq_env.errors import SettingError
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.spec import LayerSpec

MULTIPLICATION = 0.2 / 8**2
"""pJ for each bit of one factor times each bit of the other: an 8-bit multiplication is 0.2 pJ.

The same source's 32-bit multiplication, 3.1 pJ, gives 3% less, so that the product of widths holds.
"""
ADDITION = 0.1 / 32
"""pJ for each bit of the accumulator: a 32-bit addition is 0.1 pJ."""
FLOAT_MULTIPLICATION, FLOAT_ADDITION = 3.7, 0.9
"""pJ, 32 bits."""
MEMORIES = {"sram": 100 / 64, "dram": 1300 / 64}
"""pJ for each bit: on-chip memory of 1 MB, 100 pJ for 64 bits; DRAM, the lower of 1.3 to 2.6 nJ."""


@dataclass(frozen=True)
class Energy:
    """Picojoules that one image takes on an accelerator in 45 nm with arithmetic of any width.

    For a layer of ``w`` weight bits and ``a`` activation bits::

        MACs x (m w a + s (w + a + ceil(log2(n)))) + weights x w x r + activations x a x 2 t

    with ``m`` :data:`MULTIPLICATION`; ``s`` :data:`ADDITION`, into an accumulator that no sum of
    ``n`` products overflows, ``n`` being the MACs of one output; ``r`` the memory that weights are
    read from once an image; ``t`` the on-chip memory that an activation is written to by one layer
    and read from by the next. Float (32 bits) in either factor makes both operations float. The
    numbers are those of Horowitz, "Computing's energy problem", ISSCC 2014, figure 1.1.9.

    Not counted: biases, steps, requantisation, pooling, additions of branches, control, leakage,
    and what several reads of one value take where the registers cannot hold it.

    Attributes:
        weight_memory: ``sram`` where the chip holds all weights, ``dram`` where it does not.
        name: the word for it.

    Raises:
        SettingError: there is no such memory.
    """

    weight_memory: str = "sram"
    name: str = "energy"

    def __post_init__(self) -> None:
        if self.weight_memory not in MEMORIES:
            raise SettingError(
                f"weight_memory: got {self.weight_memory!r}, allowed are {list(MEMORIES)}"
            )

    def of(self, spec: LayerSpec, bits: LayerBits) -> float:
        """Picojoules of the layer for one image."""
        weights = spec.weights * bits.weight * MEMORIES[self.weight_memory]
        received = activations(spec) * bits.activation * 2 * MEMORIES["sram"]
        return spec.macs * _mac(spec, bits) + weights + received


def _mac(spec: LayerSpec, bits: LayerBits) -> float:
    """Picojoules of a multiplication and an addition."""
    if FLOAT_BITS in bits:
        return FLOAT_MULTIPLICATION + FLOAT_ADDITION
    terms = spec.weights // spec.out_channels
    accumulator = bits.weight + bits.activation + math.ceil(math.log2(terms))
    return MULTIPLICATION * bits.weight * bits.activation + ADDITION * accumulator
