"""The integers of a quantised layer, as files hold them and hardware computes with them."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dqmq_env.errors import AssignmentError
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.layer import QuantizedLayer


@dataclass(frozen=True)
class IntegerWeight:
    """A weight ``step * (code + offset)``.

    Attributes:
        codes: of the weight's shape, output channels first.
        offset: 0, or a half where the levels lie between integers: those of one bit, and those of
            DoReFa and PACT.
        steps: one for each output channel, float32, shape (O,); below zero where a folded batch
            norm turns the channel round.
    """

    codes: NDArray[np.int64]
    offset: float
    steps: NDArray[np.float32]

    def whole(self) -> Self:
        """The same weight without an offset: twice the codes, which are odd then, at half the step.

        They take one bit more.
        """
        if self.offset == 0:
            return self
        return type(self)(2 * self.codes + round(2 * self.offset), 0.0, self.steps / np.float32(2))


@dataclass(frozen=True)
class IntegerInput:
    """An input ``step * (code - zero)`` with codes from 0 to ``2**bits - 1``.

    Attributes:
        bits: width.
        zero: the code that stands for 0.
        step: float32.
    """

    bits: int
    zero: int
    step: np.float32

    @property
    def range(self) -> tuple[np.float32, np.float32]:
        """The values of the lowest and of the highest code."""
        low, high = np.float32(-self.zero), np.float32(2**self.bits - 1 - self.zero)
        return low * self.step, high * self.step

    def codes(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        """The codes nearest to ``x``, of its shape; of two equally near the even one."""
        rounded = np.rint(x * (np.float32(1) / self.step)) + self.zero
        codes: NDArray[np.int64] = rounded.clip(0, 2**self.bits - 1).astype(np.int64)
        return codes


def integer_weight(layer: QuantizedLayer, bits: LayerBits) -> IntegerWeight:
    """The weight of a layer, whose steps depend on both widths where there are corrections.

    Raises:
        AssignmentError: the bits are not among the candidates; float is none.
    """
    codes = layer.weight_codes(bits.weight).cpu().numpy().astype(np.int64)
    offset = layer.weight_grid(layer.candidates.index(bits.weight)).offset
    return IntegerWeight(codes, offset, layer.weight_steps(bits).cpu().numpy())


def integer_input(layer: QuantizedLayer, bits: int) -> IntegerInput:
    """How a layer rounds its input at a width.

    Raises:
        AssignmentError: the width is not among the candidates; float is none.
    """
    known = layer.activation_candidates
    if bits not in known:
        raise AssignmentError(
            f"bits: got {bits} for the input of {layer.spec.name}, allowed are {list(known)}"
        )
    position = known.index(bits)
    step = layer.activation_log_step[position].detach().exp().cpu().numpy()
    return IntegerInput(bits, int(layer.activation_zero[position]), np.float32(step))
