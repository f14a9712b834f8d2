"""How what a packed file holds is laid out as a header and a few tensors.

All layers share three tensors, since a name and a shape for each of them would take more room than
the steps of a small layer: ``codes`` (bytes), ``steps`` and ``floats``. Each layer takes the next
stretch of them, in forward order; how long it is follows from the layer's entry in the header,
which leaves out what goes without saying.
What else belongs to the network has tensors of its own, ``float.NAME``; so has a policy,
``policy.NAME``.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

import torch
from torch import Tensor

from dqmq_env.export.bit_packing import pack_bits
from dqmq_env.export.contents import Packed, PackedLayer
from dqmq_env.export.merging import merged, merged_bits
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.grid import MAX_BITS
from dqmq_env.quantization.scheme import Scheme
from dqmq_env.quantization.scheme_names import scheme_by_name
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.search.rule import Rule

CODES: Final = "codes"
STEPS: Final = "steps"
FLOATS: Final = "floats"
LEFTOVER: Final = "float."
POLICY: Final = "policy."

COLUMNS: Final = [own.name for own in fields(LayerSpec)]
"""What the header says of a layer's spec, in this order."""


def to_header(packed: Packed) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header, as JSON can hold it, and the tensors."""
    network = packed.network
    scheme = scheme_by_name(network.scheme)
    codes, steps, floats = _Writer(), _Writer(), _Writer()
    layers = [_write_layer(layer, scheme, codes, steps, floats) for layer in network.layers]
    header = {
        "about": {
            "name": packed.about.name,
            "architecture": dict(packed.about.architecture),
            "classes": list(packed.about.classes),
        },
        "mean": list(packed.mean),
        "std": list(packed.std),
        "scheme": network.scheme,
        "integer": network.integer,
        "channels_last": network.channels_last,
        "spec": COLUMNS,
        "layers": layers,
        "bits": _write_bits(packed),
        "policy": None,
    }
    tensors = {
        CODES: codes.joined(torch.uint8),
        STEPS: steps.joined(torch.float32),
        FLOATS: floats.joined(torch.float32),
        **{LEFTOVER + name: value for name, value in network.leftovers.items()},
    }
    if packed.policy is not None:
        header["policy"] = {
            "kind": packed.policy.kind,
            "settings": dict(packed.policy.settings),
        }
        tensors |= {POLICY + name: value for name, value in packed.policy.tensors.items()}
    return header, tensors


def merged_parts(bits: int) -> list[tuple[int, int]]:
    """How merged codes are divided where they have more than 8 bits: first bit and bits of each."""
    return [(first, min(MAX_BITS, bits - first)) for first in range(0, bits, MAX_BITS)]


def usual_shape(spec: LayerSpec) -> tuple[int, ...]:
    """The shape of a layer's weight where its kernel is square; the header names others."""
    if spec.kind == "linear":
        return spec.out_channels, spec.in_channels
    return spec.out_channels, spec.in_channels // spec.groups, spec.kernel, spec.kernel


class _Writer:
    """Collects stretches of one tensor."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def add(self, part: Tensor) -> None:
        self._parts.append(part.reshape(-1))

    def add_rows(self, rows: Sequence[Tensor]) -> tuple[list[int], list[int]]:
        """Add each different row once; return their lengths, and which is which."""
        kept: list[Tensor] = []
        places = []
        for row in rows:
            same = (place for place, own in enumerate(kept) if own.equal(row))
            place = next(same, len(kept))
            if place == len(kept):
                kept.append(row)
                self.add(row)
            places.append(place)
        return [len(row) for row in kept], places

    def joined(self, dtype: torch.dtype) -> Tensor:
        return torch.cat([torch.zeros(0, dtype=dtype), *self._parts])


def _write_layer(
    layer: PackedLayer, scheme: Scheme, codes: _Writer, steps: _Writer, floats: _Writer
) -> dict[str, Any]:
    spec = layer.spec.to_dict()
    stored = layer.stored_widths(scheme)
    entry: dict[str, Any] = {
        "spec": [spec[name] for name in COLUMNS],
        "bits": [list(pair) for pair in layer.pairs],
    }
    if layer.shape != usual_shape(layer.spec):
        entry["shape"] = list(layer.shape)
    grids = layer.grids(scheme)
    together = merged(layer.codes, layer.rounding, grids) if len(stored) > 1 else None
    if together is not None and merged_bits(grids) < sum(stored):
        entry["merged"] = True
        for first, bits in merged_parts(merged_bits(grids)):
            part = (together >> first) & (2**bits - 1)
            codes.add(torch.from_numpy(pack_bits(part, bits)))
    else:
        if stored != layer.widths[-1:]:
            entry["stored"] = list(stored)
        for width in stored:
            packed = pack_bits(layer.codes[width].numpy(), width, grids[width].low)
            codes.add(torch.from_numpy(packed))
    if layer.integer_pairs:
        rows = [layer.steps[pair] for pair in layer.integer_pairs]
        if len(layer.widths) > 1:
            rows += [layer.rounding[width] for width in layer.widths]
        lengths, places = steps.add_rows(rows)
        if (lengths, places) != ([layer.spec.out_channels], [0]):
            entry["steps"], entry["step"] = lengths, places
    if layer.corrections:
        rows = [layer.corrections[pair] for pair in layer.integer_pairs]
        entry["corrections"], entry["correction"] = floats.add_rows(rows)
    for name in ("bias", "weight"):
        value = getattr(layer, name)
        if value is not None:
            entry[name] = True
            floats.add(value)
    if layer.scale is not None:
        entry["scale"] = True
        steps.add(layer.scale)
    for width in layer.activation_widths:
        steps.add(layer.activation_log_steps[width])
    steps.add(layer.activation_range)
    zeros = [layer.activation_zeros[width] for width in layer.activation_widths]
    if any(zeros):
        entry["zeros"] = zeros
    return entry


def _write_bits(packed: Packed) -> dict[str, Any]:
    """Each assignment as the place of each layer's bits among those in use."""

    def places(assignment: BitAssignment) -> list[int]:
        return [layer.pairs.index(assignment[layer.spec.name]) for layer in packed.network.layers]

    if isinstance(packed.bits, Rule):
        rule = {str(condition): places(own) for condition, own in packed.bits.items()}
        return {"kind": "rule", "places": rule}
    if packed.bits is None:
        return {"kind": "policy"}
    return {"kind": "assignment", "places": places(packed.bits)}
