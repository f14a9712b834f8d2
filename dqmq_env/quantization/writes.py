"""Whether a network writes into what its layers give, as ``y += x`` and ``relu_`` do."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dqmq_env.quantization.inputs import FEW, float_pass
from dqmq_env.quantization.layer import QuantizedLayer

if TYPE_CHECKING:
    from dqmq_env.quantization.network import QuantizedNetwork


@torch.no_grad()
def note_writes(network: "QuantizedNetwork", x: Tensor) -> None:
    """Tell each layer whether the network writes into what it gives, in a float pass.

    Args:
        network: left in the mode that it was in.
        x: normalised images, shape (N, C, H, W), of which a few are passed through.
    """
    given: list[tuple[QuantizedLayer, Tensor, int]] = []

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        assert isinstance(layer, QuantizedLayer)
        given.append((layer, output, output._version))

    handles = [layer.register_forward_hook(note) for layer in network.layers]
    try:
        float_pass(network, x[:FEW])
    finally:
        for handle in handles:
            handle.remove()
    for layer in network.layers:
        uses = [(output, version) for own, output, version in given if own is layer]
        layer.written_into = any(output._version != version for output, version in uses)
