"""One measured latency; free of torch."""

import math
from dataclasses import dataclass

from dqmq_env.errors import AssignmentError, TableError
from dqmq_env.quantization.assignment import LayerBits, check_bits


@dataclass(frozen=True)
class Timing:
    """How long a layer takes at some bits.

    Attributes:
        layer: its name in the network.
        weight: bits of its weights; 32 for float.
        activation: bits of what it receives; 32 for float.
        milliseconds: for one image, the median where there were repeats.
        low: lower quartile of the repeats; ``None`` where it is not known.
        high: upper quartile.
        form: what ran, in words, such as ``QLinearConv``; empty where it is not known.
        macs: multiply-accumulates of the layer, which tell layers of one name apart; 0 where they
            are not known.

    Raises:
        TableError: bits are not 1 to 8 or 32, a time is negative or not finite, or a text has
            several lines.
    """

    layer: str
    weight: int
    activation: int
    milliseconds: float
    low: float | None = None
    high: float | None = None
    form: str = ""
    macs: int = 0

    def __post_init__(self) -> None:
        try:
            check_bits(self.weight, f"latency of {self.layer}")
            check_bits(self.activation, f"latency of {self.layer}")
        except AssignmentError as error:
            raise TableError(str(error)) from error
        for name in ("layer", "form"):
            text = getattr(self, name)
            if len(text.splitlines()) > 1:
                raise TableError(f"latency: {name}: got {text!r}, allowed is a single line")
        for name in ("milliseconds", "low", "high"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise TableError(
                    f"latency of {self.layer} at {self.weight}/{self.activation} bits: {name}: got "
                    f"{value}, allowed are finite numbers from 0"
                )

    @property
    def bits(self) -> LayerBits:
        """Of weights and activation."""
        return LayerBits(self.weight, self.activation)
