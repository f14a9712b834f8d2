"""The bits of every layer of a network, as a value."""

import json
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, SupportsIndex, cast

from dqmq_env.errors import AssignmentError
from dqmq_env.files import atomic_write_text
from dqmq_env.quantization.grid import FLOAT_BITS, MAX_BITS

SCHEMA = "dqmq-assignment/1"


class LayerBits(NamedTuple):
    """Bits of a layer's weights and of the activation that it receives; 32 stands for float."""

    weight: int
    activation: int


class BitAssignment(Mapping[str, LayerBits]):
    """An immutable mapping from layer names, in forward order, to :class:`LayerBits`.

    Two are equal where they give every layer the same bits, in whatever order.

    Args:
        bits: layer name to a pair (weight bits, activation bits), each 1 to 8 or 32 for float.

    Raises:
        AssignmentError: a layer's bits are not a pair of allowed integers.
    """

    __slots__ = ("_bits",)

    def __init__(self, bits: Mapping[str, Sequence[int]]) -> None:
        self._bits = {name: _layer_bits(name, pair) for name, pair in bits.items()}

    @classmethod
    def uniform(cls, layers: Iterable[str], bits: int) -> "BitAssignment":
        """The same bits for weights and activations of every layer."""
        return cls(dict.fromkeys(layers, (bits, bits)))

    def __getitem__(self, name: str) -> LayerBits:
        return self._bits[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)

    def __hash__(self) -> int:
        return hash(frozenset(self._bits.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BitAssignment) and self._bits == other._bits

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}: {b.weight}/{b.activation}" for name, b in self.items())
        return f"BitAssignment({inside})"

    def to_json(self) -> str:
        """JSON text with a schema version."""
        return json.dumps(
            {"schema": SCHEMA, "layers": {name: list(bits) for name, bits in self.items()}}
        )

    @classmethod
    def from_json(cls, text: str) -> "BitAssignment":
        """Read what :meth:`to_json` wrote.

        Raises:
            AssignmentError: the text is not such JSON.
        """
        try:
            fields = json.loads(text)
            schema, layers = fields["schema"], fields["layers"]
            pairs = {name: tuple(bits) for name, bits in layers.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise AssignmentError(f"assignment: not {SCHEMA} JSON: {error!r}") from error
        if schema != SCHEMA:
            raise AssignmentError(f"assignment: schema {schema!r}, this version reads {SCHEMA!r}")
        return cls(pairs)

    def save(self, path: Path) -> None:
        """Write the JSON, whole or not at all."""
        atomic_write_text(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: Path) -> "BitAssignment":
        """Read a file that :meth:`save` wrote.

        Raises:
            AssignmentError: the file is missing or holds something else.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise AssignmentError(f"path: cannot read {path}: {error}") from error


def check_bits(bits: object, argument: str) -> int:
    """Return ``bits`` if it is an integer 1 to 8, or 32 for float.

    Raises:
        AssignmentError: it is not.
    """
    allowed = (*range(1, MAX_BITS + 1), FLOAT_BITS)
    # an int is told apart first, since a protocol is slow to look for
    integral = type(bits) is int or (isinstance(bits, SupportsIndex) and not isinstance(bits, bool))
    if not integral or bits not in allowed:
        raise AssignmentError(
            f"{argument}: got {bits!r} bits, allowed are 1 to {MAX_BITS}, or {FLOAT_BITS} for float"
        )
    return operator.index(cast(SupportsIndex, bits))


def _layer_bits(name: str, pair: object) -> LayerBits:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise AssignmentError(f"{name}: got {pair!r}, allowed is (weight bits, activation bits)")
    return LayerBits(check_bits(pair[0], name), check_bits(pair[1], name))
