"""The bits of each layer as Brevitas takes them.

`Brevitas <https://github.com/Xilinx/brevitas>`_ builds a network of layers such as ``QuantConv2d``
whose widths are arguments: the fields of a row below, but for the layer's name and type, are those.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dqmq_env.errors import AssignmentError
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.spec import LayerSpec

SCHEMA: Final = "dqmq-brevitas/1"


def brevitas_rows(
    specs: Sequence[LayerSpec], bits: Mapping[str, LayerBits]
) -> dict[str, dict[str, Any]]:
    """Layer name to its type and its arguments, in forward order.

    A width is ``None`` for float, which Brevitas has as ``weight_quant=None`` or
    ``input_quant=None``.

    Raises:
        AssignmentError: a layer has no bits.
    """
    missing = [spec.name for spec in specs if spec.name not in bits]
    if missing:
        raise AssignmentError(f"bits: layers without bits: {missing}")
    return {
        spec.name: {
            "layer": "QuantLinear" if spec.kind == "linear" else "QuantConv2d",
            "weight_bit_width": _width(bits[spec.name].weight),
            "input_bit_width": _width(bits[spec.name].activation),
        }
        for spec in specs
    }


def brevitas_json(specs: Sequence[LayerSpec], bits: Mapping[str, LayerBits]) -> str:
    """The rows as JSON with a schema version."""
    return json.dumps({"schema": SCHEMA, "layers": brevitas_rows(specs, bits)}, indent=1) + "\n"


def brevitas_markdown(specs: Sequence[LayerSpec], bits: Mapping[str, LayerBits]) -> str:
    """The rows as a Markdown table."""
    lines = ["| name | layer | `weight_bit_width` | `input_bit_width` |", "|---|---|---:|---:|"]
    for name, row in brevitas_rows(specs, bits).items():
        widths = [row["weight_bit_width"] or "float", row["input_bit_width"] or "float"]
        lines.append(f"| `{name}` | `{row['layer']}` | {widths[0]} | {widths[1]} |")
    return "\n".join(lines) + "\n"


def _width(bits: int) -> int | None:
    return None if bits == FLOAT_BITS else bits
