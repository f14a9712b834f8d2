"""Fold batch normalisation into the layer before it, for evaluation."""

import copy
from typing import Any

import torch
from torch import nn
from torch.fx import Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

from dqmq_env.errors import NetworkError
from dqmq_env.quantization.graph import trace_graph
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.surgery import replace_module


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy in eval mode where each ``conv -> batch norm`` pair is one convolution.

    A quantised layer keeps its integer weights: the factor of its batch norm multiplies the step
    of each output channel (:attr:`QuantizedLayer.output_scale`), which changes nothing but the
    rounding of floats. A network whose code cannot be traced is copied as it is.

    Args:
        network: float, or with quantised layers inside, in any mode.
    """
    folded = copy.deepcopy(network).eval()
    fold_in_place(folded)
    return folded


def fold_in_place(network: nn.Module) -> None:
    """As :func:`fold_batch_norm`, but the network itself, in eval mode, is changed."""
    for layer, norm in batch_norms(network):
        _fold(layer, norm)
        replace_module(network, norm, nn.Identity())


def batch_norms(network: nn.Module) -> list[tuple[nn.Module, nn.BatchNorm2d]]:
    """Each convolution, quantised or not, whose output goes to one batch norm alone, and that norm.

    There are none where the code of the network cannot be traced.
    """
    try:
        graph = trace_graph(network)
    except NetworkError:
        return []
    modules = dict(network.named_modules())
    uses: dict[str, int] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module":
            uses[node.target] = uses.get(node.target, 0) + 1
    found = []
    for node in graph.graph.nodes:
        source = _foldable_source(node, modules, uses)
        if source is not None:
            norm = modules[node.target]
            assert isinstance(norm, nn.BatchNorm2d)
            found.append((modules[source], norm))
    return found


def _foldable_source(node: Node, modules: dict[str, nn.Module], uses: dict[str, int]) -> str | None:
    """The name of the layer that a batch norm's node can be folded into."""
    if node.op != "call_module" or not isinstance(modules[str(node.target)], nn.BatchNorm2d):
        return None
    source = node.args[0]
    if not isinstance(source, Node) or source.op != "call_module" or len(source.users) > 1:
        return None
    name = str(source.target)
    if uses[name] > 1 or uses[str(node.target)] > 1:
        return None
    layer = modules[name]
    inner = layer.inner if isinstance(layer, QuantizedLayer) else layer
    norm = modules[str(node.target)]
    assert isinstance(norm, nn.BatchNorm2d)
    return name if isinstance(inner, nn.Conv2d) and norm.track_running_stats else None


@torch.no_grad()
def _fold(layer: nn.Module, norm: Any) -> None:
    conv: Any = layer.inner if isinstance(layer, QuantizedLayer) else layer
    weight, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    conv.bias = bias
    if isinstance(layer, QuantizedLayer):
        layer.written_into = True  # for all that is known, by what followed the batch norm
        gain = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight
        layer.output_scale = gain * (norm.running_var + norm.eps).rsqrt()
        layer.output_shift = -norm.running_mean * layer.output_scale
        if norm.bias is not None:
            layer.output_shift += norm.bias
        if layer.rounded is not None:
            layer.rounded.bias.mul_(layer.output_scale)
        if layer.alignment is not None:
            layer.alignment.fold(layer.output_scale)
    else:
        conv.weight = weight
