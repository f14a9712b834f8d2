"""How a latency table is measured, as plain values; free of torch."""

from dataclasses import dataclass

from dqmq_env.errors import SettingError
from dqmq_env.quantization.grid import MAX_BITS

TYPES = (2, 4, 8)
"""Widths of the integer types of ONNX."""
KERNELS = ("integer", "float")


@dataclass(frozen=True)
class Measuring:
    """How layers are timed.

    Attributes:
        bits: widths of weights and activations that the table answers for, in all pairs; 8 bits,
            float, and weights of these bits with float activations are always added.
        types: widths of the integer types that may hold them, each width in the narrowest: 2, 4
            and 8 by default. ``(8,)`` times all widths in 8-bit integers.
        kernels: ``integer`` leaves the runtime its integer kernels, and has it dequantise weights
            in each call where it has none, which is its default; ``float`` has it turn weights
            into floats once, when they are loaded, and compute everything in float.
        batch: images of one call; times are for one image.
        threads: that a call may use.
        repeats: rounds; in each, every layer and type is timed once, in an order of its own.
        warm_up: calls of each layer and type before the first round.

    Raises:
        SettingError: a number is not allowed.
    """

    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    types: tuple[int, ...] = TYPES
    kernels: str = "integer"
    batch: int = 1
    threads: int = 1
    repeats: int = 50
    warm_up: int = 5

    def __post_init__(self) -> None:
        for name in ("batch", "threads", "repeats", "warm_up"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name}: got {getattr(self, name)}, allowed are 1 and more")
        if self.kernels not in KERNELS:
            raise SettingError(f"kernels: got {self.kernels!r}, allowed are {list(KERNELS)}")
        if not self.bits or not {*self.bits} <= {*range(1, MAX_BITS + 1)}:
            raise SettingError(f"bits: got {list(self.bits)}, allowed are widths from 1 to 8")
        if max(TYPES) not in self.types or not {*self.types} <= {*TYPES}:
            raise SettingError(
                f"types: got {list(self.types)}, allowed are 8, with or without 4 and 2"
            )
