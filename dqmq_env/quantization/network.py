"""Any network with its convolutions and linear layers quantised to bits chosen per call."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dqmq_env.errors import AssignmentError
from dqmq_env.quantization.assignment import BitAssignment, LayerBits
from dqmq_env.quantization.choice import Chooser, LayerChoice, RelaxedBits
from dqmq_env.quantization.folding import fold_in_place
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.inputs import note_writes, sampled_values, visit_inputs
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.scheme import DEFAULT_SCHEME, Scheme
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.quantization.step_size import MeanSquaredError, StepSizeRule
from dqmq_env.quantization.surgery import replace_module

Choice = TypeVar("Choice", bound=LayerChoice)

RelaxedAssignment = Mapping[str, RelaxedBits]
"""Layer name to :class:`~dqmq_env.quantization.choice.RelaxedBits`."""


class QuantizedNetwork(nn.Module):
    """A copy of a network whose ``Conv2d`` and ``Linear`` layers are quantised.

    Args:
        network: the float network; it is not changed.
        specs: its layers, from :func:`~dqmq_env.quantization.tracing.trace_layers`.
        candidates: layer name to candidate bits, from
            :func:`~dqmq_env.quantization.candidates.candidate_bits`.
        per_channel: one weight step per output channel, or one per layer.
        activation_candidates: the same for activations, where they have a width of their own.
        scheme: how layers are quantised while they are trained.

    Call :meth:`calibrate`, or something of :mod:`~dqmq_env.quantization.post_training`, before the
    first forward pass at less than float.
    """

    def __init__(
        self,
        network: nn.Module,
        specs: Sequence[LayerSpec],
        candidates: Mapping[str, Sequence[int]],
        per_channel: bool = True,
        activation_candidates: Mapping[str, Sequence[int]] | None = None,
        scheme: Scheme = DEFAULT_SCHEME,
    ) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.specs = tuple(specs)
        for spec in self.specs:
            inner = self.network.get_submodule(spec.name)
            assert isinstance(inner, nn.Conv2d | nn.Linear)
            own = None if activation_candidates is None else activation_candidates[spec.name]
            layer = QuantizedLayer(inner, spec, candidates[spec.name], per_channel, own, scheme)
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

    @property
    def activation_candidates(self) -> dict[str, tuple[int, ...]]:
        """Layer name to the candidate bits of its input, in forward order."""
        return {layer.spec.name: layer.activation_candidates for layer in self.layers}

    @property
    def options(self) -> dict[str, tuple[LayerBits, ...]]:
        """Layer name to what a joint decision about it is between, in forward order."""
        return {layer.spec.name: layer.options for layer in self.layers}

    def uniform(self, bits: int) -> BitAssignment:
        """The assignment of ``bits`` to all that may get it; what has one width keeps it.

        Raises:
            AssignmentError: a layer has a choice, but not this one.
        """

        def among(name: str, widths: tuple[int, ...]) -> int:
            if len(widths) == 1:
                return widths[0]
            if bits not in (*widths, FLOAT_BITS):
                raise AssignmentError(
                    f"bits: got {bits}, the candidates of {name} are {list(widths)}"
                )
            return bits

        return BitAssignment(
            {
                layer.spec.name: (
                    among(layer.spec.name, layer.candidates),
                    among(layer.spec.name, layer.activation_candidates),
                )
                for layer in self.layers
            }
        )

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

        Layers learn besides whether the network writes into what they give.

        Args:
            x: normalised images, shape (N, C, H, W), from the train split.
            weight_rule: by default the least mean squared error.
            activation_rule: by default the least mean squared error.
        """
        note_writes(self, x)
        for layer in self.layers:
            layer.calibrate_weights(weight_rule or MeanSquaredError())
        self._visit_values(
            x,
            lambda layer, values: layer.calibrate_input(
                values, activation_rule or MeanSquaredError()
            ),
        )

    def align(self, x: Tensor) -> None:
        """Give each option of a layer a norm of its own, to be learned; nothing changes yet.

        Layers that leave no choice are left as they are.

        Args:
            x: normalised images, shape (N, C, H, W); they pass through the network in float.
        """
        visit_inputs(self, x, lambda layer, activation, uses: activation, _align)
        for layer in self.layers:
            if layer.alignment is not None:
                layer.alignment.train(layer.training)

    @torch.no_grad()
    def activation_errors(self, x: Tensor) -> dict[str, NDArray[np.float64]]:
        """Layer name to the root of the relative squared error of its input at each width.

        Args:
            x: normalised images, shape (N, C, H, W); they pass through the network in float.
        """
        errors: dict[str, NDArray[np.float64]] = {}

        def compare(layer: QuantizedLayer, values: Tensor) -> None:
            norm = values.norm().clamp_min(1e-6)
            rounded = [layer.quantized_input(values, b) for b in layer.activation_candidates]
            found = [float((row - values).norm() / norm) for row in rounded]
            errors[layer.spec.name] = np.array(found)

        self._visit_values(x, compare)
        return errors

    def folded(self) -> "QuantizedNetwork":
        """A copy in eval mode with batch normalisation folded into the quantised layers."""
        folded = copy.deepcopy(self).eval()
        fold_in_place(folded.network)
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

    def _visit_values(self, x: Tensor, visit: Callable[[QuantizedLayer, Tensor], None]) -> None:
        """Look at values that each layer receives, over all its uses, in a float pass."""
        visit_inputs(
            self,
            x,
            lambda layer, activation, uses: sampled_values(activation, uses),
            lambda layer, parts: visit(layer, torch.cat(parts)),
        )

    def _chooser(self, bits: BitAssignment | RelaxedAssignment) -> Chooser:
        choices: tuple[LayerChoice, ...] = self.in_order(bits)
        return lambda index, activation: choices[index]


def _align(layer: QuantizedLayer, parts: list[Tensor]) -> None:
    if len(layer.options) > 1:
        layer.align(torch.cat(parts))
