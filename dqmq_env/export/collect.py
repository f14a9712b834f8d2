"""Take out of a quantised network what a packed file holds."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dqmq_env.errors import AssignmentError, ExportError
from dqmq_env.export.contents import PackedLayer, PackedNetwork
from dqmq_env.export.narrowing import rounding_steps
from dqmq_env.quantization.assignment import BitAssignment, LayerBits
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.integer_kernel import IntegerKernel
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.scheme_names import SCHEMES
from dqmq_env.search.rule import Rule

Bits = BitAssignment | Rule | Mapping[str, Sequence[LayerBits]]
"""One assignment, one for each condition, or layer name to all that a policy may give it."""


@torch.no_grad()
def collect(network: QuantizedNetwork, bits: Bits) -> PackedNetwork:
    """What a packed file holds of a network.

    Args:
        network: calibrated or trained; it is not changed.
        bits: those that will be in use.

    Raises:
        AssignmentError: the bits do not fit the layers.
        ExportError: there are none, or the network has weights other than float32, or a scheme of
            its own.
    """
    uses = _uses(network, bits)
    folded = network.folded().cpu()
    return PackedNetwork(
        layers=tuple(
            _layer(layer, pairs) for layer, pairs in zip(folded.layers, uses, strict=True)
        ),
        leftovers=_leftovers(folded),
        scheme=_scheme_name(network),
        integer=any(isinstance(layer.kernel, IntegerKernel) for layer in network.layers),
        channels_last=_is_channels_last(network),
    )


def _uses(network: QuantizedNetwork, bits: Bits) -> list[tuple[LayerBits, ...]]:
    """The bits of each layer that are in use, ascending."""
    if isinstance(bits, BitAssignment):
        return [(pair,) for pair in network.in_order(bits)]
    if isinstance(bits, Rule):
        rows = [network.in_order(own) for own in bits.values()]
        found = [set(column) for column in zip(*rows, strict=True)]
    else:
        found = [set(map(LayerBits._make, bits.get(spec.name, ()))) for spec in network.specs]
    if not found or not all(found):
        raise ExportError("bits: got none for some layers, allowed are one pair or more for each")
    return [tuple(sorted(pairs)) for pairs in found]


def _layer(layer: QuantizedLayer, pairs: tuple[LayerBits, ...]) -> PackedLayer:
    """Take a layer of a folded copy apart; its scale and its bias are taken off meanwhile."""
    inner = layer.inner
    if inner.weight.dtype != torch.float32:
        raise ExportError(
            f"network: the weights of {layer.spec.name} are {inner.weight.dtype}, allowed are "
            "torch.float32"
        )
    integer = [pair for pair in pairs if pair.weight != FLOAT_BITS]
    in_float = len(integer) < len(pairs)
    bias, corrections = _biases(layer, integer, in_float)
    widths = sorted({pair.weight for pair in integer})
    rows = len(inner.weight)
    scale, layer.output_scale = layer.output_scale, None
    activations = sorted({pair.activation for pair in pairs} - {FLOAT_BITS})
    places = {width: _activation_place(layer, width) for width in activations}
    return PackedLayer(
        spec=layer.spec,
        shape=tuple(inner.weight.shape),
        pairs=pairs,
        codes={w: layer.weight_codes(w).to(torch.int8).reshape(rows, -1) for w in widths},
        steps={pair: _short(layer.weight_steps(pair)) for pair in integer},
        rounding={
            width: _short(rounding_steps(layer, width)) for width in widths if len(widths) > 1
        },
        bias=bias,
        corrections=corrections,
        scale=scale,
        weight=_plain(inner.weight) if in_float else None,
        activation_log_steps={
            width: layer.activation_log_step[place].detach() for width, place in places.items()
        },
        activation_zeros={
            width: int(layer.activation_zero[place]) for width, place in places.items()
        },
        activation_range=layer.activation_range,
    )


def _biases(
    layer: QuantizedLayer, integer: Sequence[LayerBits], in_float: bool
) -> tuple[Tensor | None, dict[LayerBits, Tensor]]:
    """What is added to the output at all bits, and at some; the sum of both where that will do."""
    inner = layer.inner
    own = None if inner.bias is None else inner.bias.detach()
    if layer.rounded is None and layer.alignment is None:
        return own, {}
    if in_float:
        inner.bias = None  # leaves the corrections
    found = {pair: layer.bias(pair) for pair in integer}
    sums = {pair: row.detach() for pair, row in found.items() if row is not None}
    first = next(iter(sums.values()), None)
    if in_float or first is None:
        return own, sums
    if not all(row.equal(first) for row in sums.values()):
        return None, sums
    return (first if bool(first.any()) else None), {}


def _activation_place(layer: QuantizedLayer, width: int) -> int:
    if width not in layer.activation_candidates:
        raise AssignmentError(
            f"{layer.spec.name}: got {width} bits for the input, its candidates are "
            f"{list(layer.activation_candidates)}"
        )
    return layer.activation_candidates.index(width)


def _short(row: Tensor) -> Tensor:
    """One number where all are alike."""
    return row[:1] if bool((row == row[0]).all()) else row


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _leftovers(network: QuantizedNetwork) -> dict[str, Tensor]:
    """The state of all that is not part of a quantised layer."""
    own = quantized_prefixes(network)
    found: dict[str, Any] = {
        name: value
        for name, value in network.network.state_dict().items()
        if not name.startswith(own)
    }
    foreign = [name for name, value in found.items() if not isinstance(value, Tensor)]
    if foreign:
        raise ExportError(f"network: its state has {foreign}, allowed are tensors alone")
    return {name: _plain(value) for name, value in found.items()}


def quantized_prefixes(network: QuantizedNetwork) -> tuple[str, ...]:
    """What the names of all that belongs to a quantised layer begin with."""
    return tuple(
        f"{name}."
        for name, part in network.network.named_modules(remove_duplicate=False)
        if isinstance(part, QuantizedLayer)
    )


def _scheme_name(network: QuantizedNetwork) -> str:
    kinds = {type(layer.scheme) for layer in network.layers}
    for name, scheme in SCHEMES.items():
        if kinds == {type(scheme)}:
            return name
    raise ExportError(
        f"network: its layers have the schemes {sorted(kind.__name__ for kind in kinds)}, allowed "
        f"is one of {list(SCHEMES)}"
    )


def _is_channels_last(network: nn.Module) -> bool:
    return any(
        not parameter.is_contiguous() and parameter.is_contiguous(memory_format=torch.channels_last)
        for parameter in network.parameters()
        if parameter.ndim == 4
    )
