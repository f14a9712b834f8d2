"""How large a packed file is, part by part, beside the float network that it replaces."""

import gzip
from dataclasses import asdict, dataclass

import torch
from safetensors.torch import save
from torch import Tensor, nn

from dqmq_env.costs import Size, total
from dqmq_env.export.contents import Packed
from dqmq_env.export.layout import CODES, FLOATS, LEFTOVER, POLICY, STEPS, to_header
from dqmq_env.export.packed import encoded


@dataclass(frozen=True)
class SizeTable:
    """Bytes.

    Attributes:
        codes: packed integer weights.
        steps: of weights and activations, with ranges and factors of channels.
        floats: biases, corrections, layers in float and all else that is not quantised.
        policy: what decides about bits.
        header: names, shapes, bits, zero points and checksums, with the padding of safetensors.
        total: the file.
        size_cost: what the cost ``size`` counts at the widest weights in use.
        float32: a safetensors file of the float network.
        gzip: that file, compressed by gzip at its best.
        eight_bits: a packed file of the same network with all weights at 8 bits.
    """

    codes: int
    steps: int
    floats: int
    policy: int
    header: int
    total: int
    size_cost: float
    float32: int
    gzip: int
    eight_bits: int

    def rows(self) -> list[tuple[str, float]]:
        """What each number is of, and the number."""
        return [(_WORDS[name], value) for name, value in asdict(self).items()]

    def text(self) -> str:
        """A table for a terminal: bytes, and fractions of the float32 file."""
        lines = [f"{'':34s} {'bytes':>12s} {'of float32':>10s}"]
        for what, value in self.rows():
            lines.append(f"{what:34s} {value:12,.0f} {value / self.float32:10.1%}")
        return "\n".join(lines)

    def markdown(self) -> str:
        """The same as Markdown."""
        lines = ["| | bytes | of float32 |", "|---|---:|---:|"]
        lines += [
            f"| {what} | {value:,.0f} | {value / self.float32:.1%} |" for what, value in self.rows()
        ]
        return "\n".join(lines)


_WORDS = {
    "codes": "integer weights",
    "steps": "steps",
    "floats": "biases and other float leftovers",
    "policy": "policy",
    "header": "header",
    "total": "packed file",
    "size_cost": "cost `size` of the weights",
    "float32": "float32 file",
    "gzip": "float32 file, gzip -9",
    "eight_bits": "the same network at 8 bits",
}


def size_table(packed: Packed, network: nn.Module) -> SizeTable:
    """How large the file of ``packed`` is.

    Args:
        packed: what it holds.
        network: the float network.
    """
    _, tensors = to_header(packed)
    parts = dict.fromkeys((CODES, STEPS, FLOATS, POLICY), 0)
    for name, tensor in tensors.items():
        beginning = next((own for own in (LEFTOVER, POLICY) if name.startswith(own)), name)
        part = FLOATS if beginning == LEFTOVER else beginning
        parts[part] += tensor.numel() * tensor.element_size()
    whole = len(encoded(packed))
    float32 = float_file(network)
    specs = packed.network.specs
    return SizeTable(
        codes=parts[CODES],
        steps=parts[STEPS],
        floats=parts[FLOATS],
        policy=parts[POLICY],
        header=whole - sum(parts.values()),
        total=whole,
        size_cost=total(Size(), specs, packed.network.widest) / 8,
        float32=len(float32),
        gzip=len(gzip.compress(float32, 9, mtime=0)),
        eight_bits=whole - parts[CODES] + sum(spec.weights for spec in specs),
    )


def float_file(network: nn.Module) -> bytes:
    """A safetensors file of a network's state."""
    state: dict[str, Tensor] = network.state_dict()
    return save(
        {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in state.items()
        }
    )
