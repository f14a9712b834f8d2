"""Find the layers of a network in the order in which a forward pass meets them."""

import math
import warnings
from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor, nn

from dqmq_env.errors import NetworkError
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.quantization.surgery import eval_mode

_OTHER_WEIGHTED = (
    nn.Conv1d,
    nn.Conv3d,
    nn.modules.conv._ConvTransposeNd,
    nn.RNNBase,
    nn.Bilinear,
    nn.MultiheadAttention,
    nn.Embedding,
)


def trace_layers(
    network: nn.Module, example: Tensor, exclude: Collection[str] = ()
) -> list[LayerSpec]:
    """One :class:`LayerSpec` for each ``Conv2d`` and ``Linear`` that a forward pass calls.

    A warning names layers with weights that stay in float: those of other kinds, and those that are
    never called, as where a network takes a layer's weights and multiplies with them by itself.

    Args:
        network: any module that contains its layers; left in the mode that it was in.
        example: input of one image or more, shape (N, C, H, W).
        exclude: names of layers to leave out.

    Raises:
        NetworkError: nothing is left to quantise, the network is itself a layer, or ``exclude``
            names no layer.
    """
    if isinstance(network, nn.Conv2d | nn.Linear):
        raise NetworkError("network: it is itself a layer, allowed is nn.Sequential(layer)")
    found = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    unknown = set(exclude) - set(found)
    if unknown:
        raise NetworkError(f"exclude: no layers {sorted(unknown)}, there are {list(found)}")
    specs: dict[str, LayerSpec] = {}
    hooks = []
    for name, module in found.items():
        if name in exclude:
            continue

        def record(
            module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, name: str = name
        ) -> None:
            spec = _spec(name, module, inputs[0], output)
            if name in specs:
                first = specs[name]
                spec = replace(first, macs=first.macs + spec.macs)
            specs[name] = spec

        hooks.append(module.register_forward_hook(record))
    try:
        with torch.no_grad(), eval_mode(network):
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    if not specs:
        raise NetworkError("network: it has no Conv2d or Linear layer that a forward pass uses")
    left = [name for name, module in network.named_modules() if isinstance(module, _OTHER_WEIGHTED)]
    inside, known = tuple(f"{name}." for name in left), {*specs, *exclude}
    left += [name for name in found if name not in known and not name.startswith(inside)]
    if left:
        warnings.warn(f"these layers stay in float: {', '.join(left)}", stacklevel=2)
    return list(specs.values())


def _spec(name: str, module: nn.Module, x: Tensor, output: Tensor) -> LayerSpec:
    if isinstance(module, nn.Conv2d):
        depthwise = module.groups == module.in_channels and module.groups > 1
        return LayerSpec(
            name=name,
            kind="depthwise" if depthwise else "conv",
            in_channels=module.in_channels,
            out_channels=module.out_channels,
            kernel=module.kernel_size[0],
            stride=module.stride[0],
            groups=module.groups,
            weights=module.weight.numel(),
            macs=module.weight.numel() * math.prod(output.shape[2:]),
            input_shape=tuple(x.shape[1:]),
            output_shape=tuple(output.shape[1:]),
        )
    assert isinstance(module, nn.Linear)
    return LayerSpec(
        name=name,
        kind="linear",
        in_channels=module.in_features,
        out_channels=module.out_features,
        kernel=1,
        stride=1,
        groups=1,
        weights=module.weight.numel(),
        macs=module.weight.numel() * math.prod(output.shape[1:-1]),
        input_shape=tuple(x.shape[1:]),
        output_shape=tuple(output.shape[1:]),
    )
