"""Layers that receive a mixture of their input at several widths; networks that stand still."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.network import QuantizedNetwork


@contextmanager
def mixed_inputs(network: QuantizedNetwork, shares: Mapping[int, Tensor]) -> Iterator[None]:
    """Inside the block, layers receive ``sum over k of share_k * Q_k(input)``.

    As a layer's own choice of bits comes on top, it should take its input as it is (32 bits).

    Args:
        network: the network that is passed through.
        shares: index of a layer to the share of each of its activation candidates, shape (K,).
    """

    def mix(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
        assert isinstance(layer, QuantizedLayer)
        pairs = zip(shares[layer.index], layer.activation_candidates, strict=True)
        parts = [share * layer.quantized_input(inputs[0], width) for share, width in pairs]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return (total,)

    with ExitStack() as stack:
        for index in shares:
            handle = network.layers[index].register_forward_pre_hook(mix)
            stack.callback(handle.remove)
        yield


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside the block, parameters take no gradient and running statistics do not move.

    Batch norms in train mode still normalise by the batch.
    """
    taught = [own for own in network.parameters() if own.requires_grad]
    norms = [own for own in network.modules() if isinstance(own, nn.modules.batchnorm._BatchNorm)]
    tracking = [own for own in norms if own.track_running_stats]
    _switch(taught, tracking, False)
    try:
        yield
    finally:
        _switch(taught, tracking, True)


def _switch(parameters: list[nn.Parameter], norms: list[Any], on: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(on)
    for norm in norms:
        norm.track_running_stats = on
