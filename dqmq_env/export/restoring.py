"""Make a quantised network of what a packed file holds and a module of the same architecture."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dqmq_env.errors import ExportError
from dqmq_env.export.collect import quantized_prefixes
from dqmq_env.export.contents import PackedLayer, PackedNetwork
from dqmq_env.export.narrowing import NestedWeights
from dqmq_env.quantization.folding import fold_in_place
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.integer_kernel import integers_are_fast, use_integer_kernels
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.scheme import Scheme
from dqmq_env.quantization.scheme_names import scheme_by_name
from dqmq_env.quantization.surgery import replace_module


@torch.no_grad()
def restore(packed: PackedNetwork, module: nn.Module) -> QuantizedNetwork:
    """The quantised network, ready for the bits that are in use and for no others.

    Its logits are those of the network that was packed, to the last bit on the same machine.

    Args:
        packed: what a file holds.
        module: of the float network's architecture; its weights do not matter, it is not changed.

    Raises:
        ExportError: the module is another network.
    """
    _check_layers(packed, module)
    scheme = scheme_by_name(packed.scheme)
    network = QuantizedNetwork(
        module,
        packed.specs,
        {layer.spec.name: _candidates(layer)[0] for layer in packed.layers},
        activation_candidates={layer.spec.name: _candidates(layer)[1] for layer in packed.layers},
        scheme=scheme,
    )
    network.cpu().eval()
    fold_in_place(network.network)
    for layer, own in zip(network.layers, packed.layers, strict=True):
        _install(layer, own, scheme)
    _load_leftovers(network, packed.leftovers)
    network.requires_grad_(False)
    if packed.channels_last:
        network.to(memory_format=torch.channels_last)
    if packed.integer and integers_are_fast():
        use_integer_kernels(network)
    return network


def float_module(network: QuantizedNetwork) -> nn.Module:
    """A copy of a network with its plain layers in place of the quantised ones, norms folded."""
    folded = network.folded()
    for layer in folded.layers:
        replace_module(folded.network, layer, layer.inner)
    return folded.network


def _candidates(layer: PackedLayer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Candidates of weights and of activations that hold all widths in use and go together."""
    weights, activations = layer.widths, layer.activation_widths or layer.widths
    if 1 in (len(weights), len(activations)) or weights == activations:
        return weights, activations
    both = tuple(sorted({*weights, *activations}))
    return both, both


def _install(layer: QuantizedLayer, own: PackedLayer, scheme: Scheme) -> None:
    """Give a layer its codes, steps and the rest; what is not in use stays without a number."""
    nothing = float("nan")
    weights, activations = layer.candidates, layer.activation_candidates
    rows, columns = own.shape[0], own.spec.weights // own.shape[0]
    layer.weight_log_step.zero_()
    layer.activation_log_step.fill_(nothing)
    for width, log_step in own.activation_log_steps.items():
        place = activations.index(width)
        layer.activation_log_step[place] = log_step
        layer.activation_zero[place] = own.activation_zeros[width]
    layer.activation_range.copy_(own.activation_range)
    layer.output_scale = None if own.scale is None else own.scale.clone()
    layer.inner.bias = None if own.bias is None else nn.Parameter(own.bias.clone())
    layer.inner.weight = nn.Parameter(_float_weight(own, scheme))
    if not own.integer_pairs:
        return
    codes = torch.zeros(len(weights), rows, columns, dtype=torch.int8)
    scale = torch.full((len(weights), len(activations) + 1, rows), nothing)
    bias = torch.zeros(len(weights), len(activations) + 1, rows)
    for width, found in own.codes.items():
        codes[weights.index(width)] = found
    for pair, steps in own.steps.items():
        place = -1 if pair.activation == FLOAT_BITS else activations.index(pair.activation)
        # the layer's own step is one, so that this is all that codes are multiplied by
        scale[weights.index(pair.weight), place] = steps
        if own.corrections:
            bias[weights.index(pair.weight), place] = own.corrections[pair]
    layer.rounded = NestedWeights(codes, scale, bias, own.rounding)


def _float_weight(own: PackedLayer, scheme: Scheme) -> Tensor:
    """The float weight, or what the widest codes stand for."""
    if own.weight is not None:
        return own.weight
    widest = own.widths[-1]
    steps = next(steps for pair, steps in own.steps.items() if pair.weight == widest)
    levels = own.codes[widest].float() + scheme.weight_grid(widest).offset
    return (levels * steps[:, None]).view(own.shape)


def _check_layers(packed: PackedNetwork, module: nn.Module) -> None:
    """Make sure that a module has the layers of the file.

    Raises:
        ExportError: it has not.
    """
    parts = dict(module.named_modules())
    for own in packed.layers:
        part = parts.get(own.spec.name)
        if not isinstance(part, nn.Conv2d | nn.Linear):
            raise ExportError(
                f"network: the file has a layer {own.spec.name!r}, the network has none of that "
                "name"
            )
        found = _form(part)
        expected = (own.spec.kind == "linear", own.shape, own.spec.stride, own.spec.groups)
        if found != expected:
            raise ExportError(
                f"network: {own.spec.name} is {_spoken(*found)}, that of the file is "
                f"{_spoken(*expected)}"
            )


_Form = tuple[bool, tuple[int, ...], int, int]


def _form(part: nn.Conv2d | nn.Linear) -> _Form:
    shape = tuple(part.weight.shape)
    if isinstance(part, nn.Linear):
        return True, shape, 1, 1
    return False, shape, part.stride[0], part.groups


def _spoken(linear: bool, shape: tuple[int, ...], stride: int, groups: int) -> str:
    if linear:
        return f"linear with weights {shape}"
    return f"a convolution with weights {shape}, stride {stride}, {groups} groups"


def _load_leftovers(network: QuantizedNetwork, leftovers: Mapping[str, Tensor]) -> None:
    own = quantized_prefixes(network)
    state = {
        name: value
        for name, value in network.network.state_dict().items()
        if not name.startswith(own)
    }
    missing, unknown = sorted(set(state) - set(leftovers)), sorted(set(leftovers) - set(state))
    if missing or unknown:
        raise ExportError(
            f"network: it is another one: the file has nothing for {missing}, and the network has "
            f"no {unknown}"
        )
    for name, value in leftovers.items():
        target = state[name]
        if (target.shape, target.dtype) != (value.shape, value.dtype):
            raise ExportError(
                f"network: {name} is {target.dtype} of shape {tuple(target.shape)}, that of the "
                f"file is {value.dtype} of shape {tuple(value.shape)}"
            )
        target.copy_(value)
