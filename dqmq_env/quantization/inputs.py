"""What the layers of a network receive in a float pass, and what becomes of what they give."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.surgery import eval_mode

if TYPE_CHECKING:
    from dqmq_env.quantization.network import QuantizedNetwork

Taken = TypeVar("Taken")

_FEW = 2
# no more than torch computes on one thread (its grain size), as calibration is many small steps
_SAMPLED_VALUES = 2**15


@torch.no_grad()
def visit_inputs(
    network: "QuantizedNetwork",
    x: Tensor,
    take: Callable[[QuantizedLayer, Tensor, int], Taken],
    visit: Callable[[QuantizedLayer, list[Taken]], None],
) -> None:
    """Pass images through the network in float and look at what each layer receives.

    What is taken of a layer's input is held only until the layer's last use, where it is visited.

    Args:
        network: calibrated or not; left in the mode that it was in.
        x: normalised images, shape (N, C, H, W).
        take: of a layer, its input at one of its uses, and the number of its uses.
        visit: of a layer, and what was taken at each of its uses.
    """
    uses = Counter[int]()
    _watch(network, x[:_FEW], lambda layer, _: uses.update([layer.index]))
    taken: dict[int, list[Taken]] = {}

    def receive(layer: QuantizedLayer, activation: Tensor) -> None:
        held = taken.setdefault(layer.index, [])
        held.append(take(layer, activation, uses[layer.index]))
        if len(held) == uses[layer.index]:
            visit(layer, taken.pop(layer.index))

    _watch(network, x, receive)


def sampled_values(activation: Tensor, uses: int = 1) -> Tensor:
    """At most 32,768 / uses values: evenly spaced, and the extremes, which a stride would miss."""
    flat = activation.flatten()
    spaced = flat[:: math.ceil(len(flat) / max(_SAMPLED_VALUES // uses - 2, 1))]
    return torch.cat([spaced, flat.min()[None], flat.max()[None]])


@torch.no_grad()
def note_writes(network: "QuantizedNetwork", x: Tensor) -> None:
    """Tell each layer whether the network writes into what it gives, as ``y += x`` does.

    Args:
        network: left in the mode that it was in.
        x: normalised images, shape (N, C, H, W), of which a few are passed through.
    """
    given: list[tuple[QuantizedLayer, Tensor, int]] = []

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        assert isinstance(layer, QuantizedLayer)
        given.append((layer, output, output._version))

    float_pass(network, x[:_FEW], [own.register_forward_hook(note) for own in network.layers])
    for layer in network.layers:
        uses = [(output, version) for own, output, version in given if own is layer]
        layer.written_into = any(output._version != version for output, version in uses)


def float_pass(network: "QuantizedNetwork", x: Tensor, hooks: Sequence[RemovableHandle]) -> None:
    """Pass images (N, C, H, W) through the network in float and in eval mode.

    Args:
        network: left in the mode that it was in.
        x: normalised images; not changed.
        hooks: on its layers, removed afterwards.
    """
    try:
        with eval_mode(network):
            network(x.clone(), lambda index, activation: LayerBits(FLOAT_BITS, FLOAT_BITS))
    finally:
        for hook in hooks:
            hook.remove()


def _watch(
    network: "QuantizedNetwork", x: Tensor, receive: Callable[[QuantizedLayer, Tensor], None]
) -> None:
    def hook(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(layer, QuantizedLayer)
        receive(layer, inputs[0])

    float_pass(network, x, [layer.register_forward_pre_hook(hook) for layer in network.layers])
