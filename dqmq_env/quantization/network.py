"""Any network with its convolutions and linear layers quantised to bits chosen per call."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from dqmq_env.errors import AssignmentError
from dqmq_env.quantization.assignment import BitAssignment, LayerBits, check_bits
from dqmq_env.quantization.choice import Chooser, LayerChoice, RelaxedBits
from dqmq_env.quantization.folding import fold_batch_norm
from dqmq_env.quantization.grid import FLOAT_BITS, MAX_BITS
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.quantization.step_size import MeanSquaredError, StepSizeRule
from dqmq_env.quantization.surgery import eval_mode, replace_module

# no more than torch computes on one thread (its grain size), as calibration is many small steps
_SAMPLED_VALUES = 2**15

Choice = TypeVar("Choice", bound=LayerChoice)

RelaxedAssignment = Mapping[str, RelaxedBits]
"""Layer name to :class:`~dqmq_env.quantization.choice.RelaxedBits`."""


def candidate_bits(
    specs: Sequence[LayerSpec],
    bits: Sequence[int],
    first: int | None = 8,
    last: int | None = 8,
) -> dict[str, tuple[int, ...]]:
    """The candidates of every layer: ``bits``, but for the first and the last layer.

    Args:
        specs: the layers in forward order.
        bits: candidates of the layers in between, ascending after sorting.
        first: the one width of the first layer; ``None`` gives it the candidates of the others.
        last: the same for the last layer.

    Raises:
        AssignmentError: ``bits`` is empty, has a duplicate, or a width is not 1 to 8.
    """
    if not bits or len(set(bits)) != len(bits):
        raise AssignmentError(f"bits: got {list(bits)}, allowed are one or more different widths")
    ordered = tuple(sorted(_candidate(width, "bits") for width in bits))
    candidates = {spec.name: ordered for spec in specs}
    if first is not None:
        candidates[specs[0].name] = (_candidate(first, "first"),)
    if last is not None:
        candidates[specs[-1].name] = (_candidate(last, "last"),)
    return candidates


def _candidate(bits: int, argument: str) -> int:
    if check_bits(bits, argument) == FLOAT_BITS:
        raise AssignmentError(f"{argument}: got {bits}, candidates are 1 to {MAX_BITS}")
    return int(bits)


class QuantizedNetwork(nn.Module):
    """A copy of a network whose ``Conv2d`` and ``Linear`` layers are quantised.

    Args:
        network: the float network; it is not changed.
        specs: its layers, from :func:`~dqmq_env.quantization.tracing.trace_layers`.
        candidates: layer name to candidate bits, from :func:`candidate_bits`.
        per_channel: one weight step per output channel, or one per layer.

    Call :meth:`calibrate` before the first forward pass at less than float.
    """

    def __init__(
        self,
        network: nn.Module,
        specs: Sequence[LayerSpec],
        candidates: Mapping[str, Sequence[int]],
        per_channel: bool = True,
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.specs = tuple(specs)
        for spec in self.specs:
            inner = self.network.get_submodule(spec.name)
            assert isinstance(inner, nn.Conv2d | nn.Linear)
            layer = QuantizedLayer(inner, spec, candidates[spec.name], per_channel)
            layer.training = inner.training
            replace_module(self.network, inner, layer)
        for index, layer in enumerate(self.layers):
            layer.index = index
        for module in self.modules():
            if getattr(module, "inplace", False):
                # activations are looked at, and gone back to, after they have been passed on
                setattr(module, "inplace", False)  # noqa: B010 - no attribute of every module
        self.training = network.training

    @property
    def layers(self) -> list[QuantizedLayer]:
        """The quantised layers in forward order."""
        found = [self.network.get_submodule(spec.name) for spec in self.specs]
        return [layer for layer in found if isinstance(layer, QuantizedLayer)]

    @property
    def candidates(self) -> dict[str, tuple[int, ...]]:
        """Layer name to its candidate bits, in forward order."""
        return {layer.spec.name: layer.candidates for layer in self.layers}

    def uniform(self, bits: int) -> BitAssignment:
        """The assignment of ``bits`` to every layer that may get it; the others keep their one.

        Raises:
            AssignmentError: a layer has a choice, but not this one.
        """
        chosen = {
            name: widths[0] if len(widths) == 1 else bits
            for name, widths in self.candidates.items()
        }
        for name, width in chosen.items():
            if width not in (*self.candidates[name], FLOAT_BITS):
                raise AssignmentError(
                    f"bits: got {bits}, the candidates of {name} are {list(self.candidates[name])}"
                )
        return BitAssignment({name: (width, width) for name, width in chosen.items()})

    def forward(self, x: Tensor, bits: BitAssignment | RelaxedAssignment | Chooser) -> Tensor:
        """Logits at the given bits.

        Args:
            x: normalised images, shape (N, C, H, W).
            bits: a hard assignment, a relaxed one, or a chooser that is asked layer by layer and
                sees the activation that the layer is about to receive.

        Raises:
            AssignmentError: the bits do not fit the layers.
        """
        layers = self.layers
        chooser = self._chooser(bits) if isinstance(bits, Mapping) else bits
        for layer in layers:
            layer.chooser = chooser
        try:
            logits: Tensor = self.network(x)
        finally:
            for layer in layers:
                layer.chooser, layer.chosen = None, None
        return logits

    @torch.no_grad()
    def calibrate(
        self,
        x: Tensor,
        weight_rule: StepSizeRule | None = None,
        activation_rule: StepSizeRule | None = None,
    ) -> None:
        """Set every step size from the weights and from a float pass over calibration images.

        Args:
            x: normalised images, shape (N, C, H, W), from the train split.
            weight_rule: by default the least mean squared error.
            activation_rule: by default the least mean squared error.
        """
        layers = self.layers
        rule = activation_rule or MeanSquaredError()
        for layer in layers:
            layer.calibrate_weights(weight_rule or MeanSquaredError())

        def observe(index: int, activation: Tensor) -> LayerChoice:
            layers[index].calibrate_input(_values(activation), rule)
            return LayerBits(FLOAT_BITS, FLOAT_BITS)

        with eval_mode(self):
            self(x, observe)

    def folded(self) -> "QuantizedNetwork":
        """A copy in eval mode with batch normalisation folded into the quantised layers."""
        folded = copy.deepcopy(self).eval()
        folded.network = fold_batch_norm(folded.network)
        return folded

    def in_order(self, bits: Mapping[str, Choice]) -> tuple[Choice, ...]:
        """The bits of the layers in forward order.

        Raises:
            AssignmentError: a layer has none, or there is no such layer.
        """
        missing = [spec.name for spec in self.specs if spec.name not in bits]
        unknown = sorted(set(bits) - {spec.name for spec in self.specs})
        if missing or unknown:
            raise AssignmentError(
                f"bits: layers without bits: {missing}, unknown layers: {unknown}"
            )
        return tuple(bits[spec.name] for spec in self.specs)

    def _chooser(self, bits: BitAssignment | RelaxedAssignment) -> Chooser:
        choices: tuple[LayerChoice, ...] = self.in_order(bits)
        return lambda index, activation: choices[index]


def _values(activation: Tensor) -> Tensor:
    """At most 32,768 of the values: evenly spaced, and the extremes, which a stride would miss."""
    flat = activation.flatten()
    spaced = flat[:: math.ceil(len(flat) / (_SAMPLED_VALUES - 2))]
    return torch.cat([spaced, flat.min()[None], flat.max()[None]])
