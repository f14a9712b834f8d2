"""Measured latency as a cost: a table of layers, weight bits and activation bits; free of torch."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dqmq_env.costs.latency_files import array_file, csv_file, csv_text
from dqmq_env.costs.timing import Timing
from dqmq_env.errors import TableError
from dqmq_env.files import atomic_write_text
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.grid import MAX_BITS
from dqmq_env.quantization.spec import LayerSpec


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds for one image: the sum of what each layer took at its bits, measured alone.

    Nothing is interpolated: what was not measured is refused. :attr:`joint_widths` are the
    candidates that the table can answer for.

    Args:
        timings: one for each layer and pair of bits.
        about: how they were measured; a name and a text of one line each.
        name: the word for the cost.

    Raises:
        TableError: there are no timings, all are 0, a layer has two at the same bits, or a text of
            ``about`` has several lines.
    """

    timings: tuple[Timing, ...] = field(repr=False)
    about: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)
    name: str = "latency"

    def __post_init__(self) -> None:
        if not any(timing.milliseconds for timing in self.timings):
            raise TableError("latency: got no times above 0, allowed are one or more")
        counts = Counter((timing.layer, timing.bits) for timing in self.timings)
        (layer, bits), most = counts.most_common(1)[0]
        if most > 1:
            raise TableError(f"latency: {layer} has {most} times at {_spoken([bits])} bits")
        for pair in self.about:
            if any(text != " ".join(text.split()) for text in pair) or {*":#"} & {*pair[0]}:
                raise TableError(
                    f"about: got {pair}, allowed is a name without ':' and '#', and one line of "
                    "text, with single spaces"
                )

    @classmethod
    def load(cls, path: str | Path) -> "LatencyTable":
        """Read a file: HAQ's form where it ends in ``.npy``, else CSV.

        Raises:
            TableError: see :meth:`from_csv`.
        """
        return cls.from_npy(path) if Path(path).suffix == ".npy" else cls.from_csv(path)

    @classmethod
    def from_csv(cls, path: str | Path) -> "LatencyTable":
        """Read a CSV file; :mod:`dqmq_env.costs.latency_files` says what it holds.

        Raises:
            TableError: the file is missing or damaged, of another kind, or in another unit.
        """
        timings, about = csv_file(Path(path))
        return cls(timings, tuple(about.items()))

    def to_csv(self, path: str | Path) -> None:
        """Write a CSV file, whole or not at all."""
        atomic_write_text(path, csv_text(self.timings, dict(self.about)))

    @classmethod
    def from_npy(
        cls, path: str | Path, layers: Sequence[str] | None = None, unit: str | None = None
    ) -> "LatencyTable":
        """Read HAQ's form, see :meth:`from_array`, from a file; nothing in it is executed.

        Args:
            path: of a ``.npy`` file.
            layers: their names in the order of the array; by default those in the ``.json`` file
                of the same name.
            unit: of the array, ``ms``; by default that in the ``.json`` file.

        Raises:
            TableError: see :meth:`from_csv`.
        """
        values, names, about = array_file(Path(path), layers, unit)
        return cls.from_array(values, names, about)

    @classmethod
    def from_array(
        cls,
        values: NDArray[Any],
        layers: Sequence[str],
        about: Mapping[str, str] | None = None,
    ) -> "LatencyTable":
        """From HAQ's form: an array indexed by layer, weight bits - 1 and activation bits - 1.

        Args:
            values: milliseconds, shape (layers, W, A) with W and A up to 8; NaN where there is no
                time.
            layers: their names, in the order of the array.
            about: how they were measured.

        Raises:
            TableError: the array is of another shape or type, or a time is negative or infinite.
        """
        numbers = np.asarray(values)
        fits = numbers.ndim == 3 and max(numbers.shape[1:]) <= MAX_BITS
        if not fits or len(numbers) != len(layers) or numbers.dtype.kind not in "iuf":
            raise TableError(
                f"latency: got an array of {numbers.dtype} of shape {numbers.shape}, allowed are "
                f"numbers of shape ({len(layers)} layers, up to 8 weight bits, up to 8 activation "
                "bits)"
            )
        return cls(
            tuple(
                Timing(layers[layer], weight + 1, activation + 1, float(value))
                for (layer, weight, activation), value in np.ndenumerate(numbers)
                if not np.isnan(value)
            ),
            tuple((about or {}).items()),
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in the order of the timings."""
        return tuple(self._by_layer)

    @property
    def joint_widths(self) -> tuple[int, ...]:
        """The widths that every layer has for weights and activation alike, float left out.

        They can be given as candidates: ``bits=table.joint_widths``.
        """
        every = [
            {own.weight for own in known if own.weight == own.activation <= MAX_BITS}
            for known in self._by_layer.values()
        ]
        return tuple(sorted(set.intersection(*every)))

    def timing(self, spec: LayerSpec, bits: LayerBits) -> Timing:
        """What was measured of a layer at some bits.

        Raises:
            TableError: nothing was, or the layer of that name was another.
        """
        known = self._by_layer.get(spec.name)
        if known is None:
            raise TableError(
                f"latency: the table has no layer {spec.name!r}, there are {_few(self.layers)}"
            )
        found = known.get(bits)
        if found is None:
            raise TableError(
                f"latency: {spec.name} was not measured at {_spoken([bits])} bits (weights/"
                f"activation), there are {_spoken(known)}; candidates can be limited to what all "
                f"layers have: bits={self.joint_widths}"
            )
        if found.macs not in (0, spec.macs):
            raise TableError(
                f"latency: the {spec.name} that was measured has {found.macs} MACs, this one has "
                f"{spec.macs}: the table is of another network"
            )
        return found

    def of(self, spec: LayerSpec, bits: LayerBits) -> float:
        """Milliseconds of the layer for one image; see :meth:`timing` for errors."""
        return self.timing(spec, bits).milliseconds

    @cached_property
    def _by_layer(self) -> dict[str, dict[LayerBits, Timing]]:
        found: dict[str, dict[LayerBits, Timing]] = {}
        for timing in self.timings:
            found.setdefault(timing.layer, {})[timing.bits] = timing
        return found


def _spoken(pairs: Iterable[LayerBits]) -> str:
    return ", ".join(f"{own.weight}/{own.activation}" for own in sorted(pairs))


def _few(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
