"""Read what :mod:`~dqmq_env.export.layout` has laid out; nothing in a header is trusted."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dqmq_env.errors import DQMQError, ExportError
from dqmq_env.export.bit_packing import packed_bytes, unpack_bits
from dqmq_env.export.contents import About, Packed, PackedLayer, PackedNetwork, Policy
from dqmq_env.export.layout import (
    CODES,
    COLUMNS,
    FLOATS,
    LEFTOVER,
    POLICY,
    STEPS,
    merged_parts,
    usual_shape,
)
from dqmq_env.export.merging import merged_bits, split
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.grid import FLOAT_BITS, Grid, activation_grid
from dqmq_env.quantization.scheme import Scheme
from dqmq_env.quantization.scheme_names import scheme_by_name
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.search.rule import Rule

_UNREADABLE = (
    DQMQError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)


def from_header(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Packed:
    """What :func:`~dqmq_env.export.layout.to_header` laid out.

    Raises:
        ExportError: header and tensors do not go together.
    """
    try:
        return _read(header, tensors)
    except _UNREADABLE as error:
        raise ExportError(f"header: it does not describe the payload: {error}") from error


def _read(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Packed:
    scheme = scheme_by_name(header["scheme"])
    stretches = _Stretches(
        _Reader(tensors, CODES, torch.uint8),
        _Reader(tensors, STEPS, torch.float32),
        _Reader(tensors, FLOATS, torch.float32),
    )
    layers = tuple(_layer(entry, header["spec"], scheme, stretches) for entry in header["layers"])
    stretches.finish()
    if not layers or len({layer.spec.name for layer in layers}) < len(layers):
        raise ExportError("header: there are no layers, or two of the same name")
    about = header["about"]
    return Packed(
        network=PackedNetwork(
            layers=layers,
            leftovers=_beginning_with(LEFTOVER, tensors),
            scheme=header["scheme"],
            integer=bool(header["integer"]),
            channels_last=bool(header["channels_last"]),
        ),
        bits=_bits(header["bits"], layers),
        mean=tuple(float(value) for value in header["mean"]),
        std=tuple(float(value) for value in header["std"]),
        about=About(
            str(about["name"]),
            dict(about["architecture"]),
            tuple(str(name) for name in about["classes"]),
        ),
        policy=_policy(header["policy"], tensors),
    )


class _Reader:
    """Hands out one tensor in stretches."""

    def __init__(self, tensors: Mapping[str, Tensor], name: str, dtype: torch.dtype) -> None:
        self._name, self._tensor = name, tensors[name]
        if self._tensor.dtype != dtype or self._tensor.ndim != 1:
            raise ExportError(f"{name} is no row of {dtype}")
        self._place = 0

    def take(self, count: int) -> Tensor:
        end = self._place + count
        if count < 0 or end > len(self._tensor):
            raise ExportError(f"{self._name} has less than the header says")
        part = self._tensor[self._place : end].clone()
        self._place = end
        return part

    def finish(self) -> None:
        if self._place != len(self._tensor):
            raise ExportError(f"{self._name} has more than the header says")


class _Stretches:
    """The three tensors that layers share."""

    def __init__(self, codes: _Reader, steps: _Reader, floats: _Reader) -> None:
        self.codes, self.steps, self.floats = codes, steps, floats

    def finish(self) -> None:
        for reader in (self.codes, self.steps, self.floats):
            reader.finish()


def _layer(
    entry: Mapping[str, Any], columns: Sequence[str], scheme: Scheme, stretches: _Stretches
) -> PackedLayer:
    spec, shape = _spec(entry, columns)
    # an assignment makes sure that bits are what they may be
    checked = BitAssignment({str(number): pair for number, pair in enumerate(entry["bits"])})
    pairs = tuple(checked.values())
    integer = [pair for pair in pairs if pair.weight != FLOAT_BITS]
    widths = sorted({pair.weight for pair in integer})
    rounded = widths if len(widths) > 1 else []
    steps = _rows(entry, "step", (1, shape[0]), len(integer) + len(rounded), stretches.steps)
    rounding = dict(zip(rounded, steps[len(integer) :], strict=True))
    if entry.get("merged"):
        grids = {width: scheme.weight_grid(width) for width in rounded}
        codes = split(_merged(spec, grids, stretches.codes), rounding, grids)
    else:
        codes = _codes(entry, spec, scheme, widths, stretches.codes)
    corrections: list[Tensor] = []
    if "corrections" in entry:
        corrections = _rows(entry, "correction", shape[:1], len(integer), stretches.floats)
    bias = stretches.floats.take(shape[0]) if entry.get("bias") else None
    weight = stretches.floats.take(spec.weights).view(shape) if entry.get("weight") else None
    if (weight is None) == (len(integer) < len(pairs)):
        raise ExportError(f"{spec.name} has float weights where its bits have none, or none")
    scale = stretches.steps.take(shape[0]) if entry.get("scale") else None
    activations = sorted({pair.activation for pair in pairs} - {FLOAT_BITS})
    zeros = dict(zip(activations, entry.get("zeros", [0] * len(activations)), strict=True))
    for width, zero in zeros.items():
        activation_grid(width, zero)  # makes sure that it is on the grid
    layer = PackedLayer(
        spec=spec,
        shape=shape,
        pairs=pairs,
        codes=codes,
        steps=dict(zip(integer, steps, strict=False)),
        rounding=rounding,
        bias=bias,
        corrections=dict(zip(integer, corrections, strict=True)) if corrections else {},
        scale=scale,
        weight=weight,
        activation_log_steps={width: stretches.steps.take(1)[0] for width in activations},
        activation_zeros=zeros,
        activation_range=stretches.steps.take(1)[0],
    )
    return layer.completed(scheme)


def _spec(entry: Mapping[str, Any], columns: Sequence[str]) -> tuple[LayerSpec, tuple[int, ...]]:
    """The spec of a layer and the shape of its weight."""
    if list(columns) != COLUMNS:
        raise ExportError(f"spec: got the columns {columns}, allowed are {COLUMNS}")
    spec = LayerSpec.from_dict(dict(zip(columns, entry["spec"], strict=True)))
    shape = tuple(entry.get("shape", usual_shape(spec)))
    texts = (spec.name, spec.kind)
    numbers = (*shape, *(own for own in entry["spec"] if not isinstance(own, str | list)))
    numbers += (*spec.input_shape, *spec.output_shape)
    if not all(isinstance(text, str) for text in texts) or not all(
        type(number) is int and number >= 1 for number in numbers
    ):
        raise ExportError(f"got a layer {entry['spec']} of shape {shape}")
    if (prod(shape), shape[0]) != (spec.weights, spec.out_channels):
        raise ExportError(f"{spec.name} has {spec.weights} weights of shape {shape}")
    return spec, shape


def _codes(
    entry: Mapping[str, Any],
    spec: LayerSpec,
    scheme: Scheme,
    widths: Sequence[int],
    reader: _Reader,
) -> dict[int, Tensor]:
    """The codes at the widths that are stored."""
    stored = list(entry.get("stored", widths[-1:]))
    if stored != [width for width in widths if width in stored] or stored[-1:] != widths[-1:]:
        raise ExportError(f"{spec.name} stores {stored} of the widths {widths}")
    found = {}
    for width in stored:
        packed = reader.take(packed_bytes(spec.weights, width)).numpy()
        values = unpack_bits(packed, width, spec.weights, scheme.weight_grid(width).low)
        found[width] = torch.from_numpy(values.astype(np.int8)).view(spec.out_channels, -1)
    return found


def _merged(spec: LayerSpec, grids: Mapping[int, Grid], reader: _Reader) -> NDArray[np.int64]:
    """Codes that stand for those at all widths, shape (O, C)."""
    if not grids:
        raise ExportError(f"{spec.name} has merged codes of less than two widths")
    total = np.zeros(spec.weights, np.int64)
    for first, bits in merged_parts(merged_bits(grids)):
        packed = reader.take(packed_bytes(spec.weights, bits)).numpy()
        total += unpack_bits(packed, bits, spec.weights).astype(np.int64) << first
    return total.reshape(spec.out_channels, -1)


def _rows(
    entry: Mapping[str, Any], name: str, lengths: Sequence[int], count: int, reader: _Reader
) -> list[Tensor]:
    """Rows of numbers, of which some may be the same: ``<name>s`` are their lengths."""
    if not count:
        return []
    known = entry.get(f"{name}s", lengths[-1:])
    if any(length not in lengths for length in known):
        raise ExportError(f"{name}s: got rows of {known} numbers, allowed are {list(lengths)}")
    rows = [reader.take(length) for length in known]
    places = entry.get(name, [0])
    if len(places) != count:
        raise ExportError(f"{name}: got {len(places)} rows, allowed are {count}")
    return [rows[place] for place in places]


def _bits(entry: Mapping[str, Any], layers: Sequence[PackedLayer]) -> BitAssignment | Rule | None:
    def assignment(places: Sequence[int]) -> BitAssignment:
        together = zip(layers, places, strict=True)
        return BitAssignment({layer.spec.name: layer.pairs[place] for layer, place in together})

    kind = entry["kind"]
    if kind == "policy":
        return None
    if kind == "assignment":
        return assignment(entry["places"])
    if kind != "rule" or not entry["places"]:
        raise ExportError(f"bits: got {entry}")
    return Rule({condition: assignment(own) for condition, own in entry["places"].items()})


def _policy(entry: Mapping[str, Any] | None, tensors: Mapping[str, Tensor]) -> Policy | None:
    if entry is None:
        return None
    return Policy(str(entry["kind"]), dict(entry["settings"]), _beginning_with(POLICY, tensors))


def _beginning_with(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
