"""Integers of 1 to 8 bits, packed densely into bytes.

Value number i takes the bits ``i * b`` to ``(i + 1) * b - 1`` of a stream, its lowest bit first.
Bit k of the stream is bit ``k % 8`` of byte ``k // 8``. What is left of the last byte is zero.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dqmq_env.errors import ExportError
from dqmq_env.quantization.grid import MAX_BITS

# a multiple of 8, so that a block ends with a whole byte; bounds the memory of single bits
_BLOCK: Final = 2**20


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that ``count`` values of ``bits`` take.

    Raises:
        ExportError: ``bits`` is not 1 to 8.
    """
    if not 1 <= bits <= MAX_BITS:
        raise ExportError(f"bits: got {bits}, allowed are 1 to {MAX_BITS}")
    return -(-count * bits // 8)


def pack_bits(values: NDArray[np.integer[Any]], bits: int, low: int = 0) -> NDArray[np.uint8]:
    """Pack integers.

    Args:
        values: integers from ``low`` to ``low + 2**bits - 1``, of any shape; C order.
        bits: 1 to 8.
        low: the smallest value there may be: 0 for unsigned ones, ``-2**(bits - 1)`` for signed.

    Returns:
        Shape (:func:`packed_bytes`,).

    Raises:
        ExportError: a value or ``bits`` is out of range.
    """
    size = packed_bytes(values.size, bits)
    flat = values.reshape(-1).astype(np.int64)
    if flat.size and not (low <= flat.min() and flat.max() < low + 2**bits):
        raise ExportError(
            f"values: got {flat.min()} to {flat.max()}, allowed are {low} to {low + 2**bits - 1}"
        )
    packed = np.empty(size, np.uint8)
    for start in range(0, flat.size, _BLOCK):
        block = (flat[start : start + _BLOCK] - low).astype(np.uint8)
        single = np.unpackbits(block[:, None], axis=1, count=bits, bitorder="little")
        found = np.packbits(single, bitorder="little")
        first = start * bits // 8
        packed[first : first + found.size] = found
    return packed


def unpack_bits(
    packed: NDArray[np.uint8], bits: int, count: int, low: int = 0
) -> NDArray[np.int16]:
    """The integers that :func:`pack_bits` packed.

    Args:
        packed: shape (:func:`packed_bytes`,).
        bits: 1 to 8.
        count: number of integers.
        low: the smallest value there may be.

    Returns:
        Shape (count,).

    Raises:
        ExportError: the bytes are more or fewer than that, or the rest of the last one is not zero.
    """
    size = packed_bytes(count, bits)
    if packed.shape != (size,):
        raise ExportError(f"packed: got shape {packed.shape}, allowed is ({size},)")
    rest = size * 8 - count * bits
    if rest and packed[-1] >> (8 - rest):
        raise ExportError("packed: the rest of the last byte is not zero")
    values = np.empty(count, np.int16)
    for start in range(0, count, _BLOCK):
        length = min(_BLOCK, count - start)
        first = start * bits // 8
        block = packed[first : first + packed_bytes(length, bits)]
        single = np.unpackbits(block, count=length * bits, bitorder="little")
        found = np.packbits(single.reshape(length, bits), axis=1, bitorder="little")
        values[start : start + length] = found[:, 0]
    values += np.int16(low)
    return values
