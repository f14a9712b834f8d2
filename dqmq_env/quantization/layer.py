"""A convolution or linear layer whose weights and input are quantised to bits chosen per call."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dqmq_env.errors import AssignmentError
from dqmq_env.quantization.alignment import Alignment
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.candidates import joint_options, telling_widths
from dqmq_env.quantization.channels import on_channels
from dqmq_env.quantization.choice import (
    Chooser,
    ImageBits,
    LayerChoice,
    RelaxedBits,
    taken_apart,
)
from dqmq_env.quantization.grid import FLOAT_BITS, Grid, activation_grid
from dqmq_env.quantization.kernel import Kernel
from dqmq_env.quantization.per_image import compute_per_image
from dqmq_env.quantization.quantizers import quantize_to_codes
from dqmq_env.quantization.relaxed import check_relaxed, expectation, sampled
from dqmq_env.quantization.rounded import RoundedWeights
from dqmq_env.quantization.scheme import DEFAULT_SCHEME, Scheme
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.quantization.step_size import StepSizeRule, zero_point
from dqmq_env.threads import one_thread


class QuantizedLayer(nn.Module):
    """Wraps a ``Conv2d`` or ``Linear`` and keeps a step size for each candidate bit-width.

    Steps are stored as logarithms, which keeps them above zero and makes a step of an optimiser
    relative to their size (Jain et al. 2020, Trained Quantization Thresholds, section 3.3); their
    gradient is that of the scheme, by the chain rule.

    Args:
        inner: the float layer; its weights are the ones trained.
        spec: what tracing found of it.
        candidates: bit-widths that it may get, ascending, each 1 to 8.
        per_channel: one weight step per output channel, or one for all.
        activation_candidates: bit-widths that its input may get: ``candidates``, which is the
            default, unless one of the two has a single width.
        scheme: what is rounded by which step, and what is learned.

    Attributes:
        kernel: another way to compute the layer where no gradients are asked for, if there is one.
        output_scale: factor on each output channel of a batch norm that was folded in, shape (O,).
        output_shift: what it adds after that.
        written_into: whether the network may write into what the layer gives; it may until
            calibration has seen that it does not, and then what is kept of it need not be copied.
    """

    weight_log_step: nn.Parameter
    activation_log_step: nn.Parameter
    activation_zero: Tensor
    activation_range: Tensor
    output_scale: Tensor | None
    output_shift: Tensor | None

    def __init__(
        self,
        inner: nn.Conv2d | nn.Linear,
        spec: LayerSpec,
        candidates: Sequence[int],
        per_channel: bool = True,
        activation_candidates: Sequence[int] | None = None,
        scheme: Scheme = DEFAULT_SCHEME,
    ) -> None:
        super().__init__()
        self.inner = inner
        self.spec = spec
        self.scheme = scheme
        self.candidates = tuple(candidates)
        self.activation_candidates = tuple(activation_candidates or candidates)
        self.options = joint_options(self.candidates, self.activation_candidates)
        channels = spec.out_channels if per_channel else 1
        self.weight_log_step = nn.Parameter(torch.zeros(len(self.candidates), channels))
        self.activation_log_step = nn.Parameter(torch.zeros(len(self.activation_candidates)))
        zeros = torch.zeros(len(self.activation_candidates), dtype=torch.int64)
        self.register_buffer("activation_zero", zeros)
        self.register_buffer("activation_range", torch.ones(()))
        self.register_buffer("output_scale", None)
        self.register_buffer("output_shift", None)
        self.rounded: RoundedWeights | None = None
        self.alignment: Alignment | None = None
        self.kernel: Kernel | None = None
        self.written_into = True
        self.index = -1
        self.chooser: Chooser | None = None
        self.chosen: LayerChoice | None = None
        self._weights: dict[int, tuple[tuple[int, ...], Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer at the bits that the network's chooser gives for ``x``."""
        if self.chosen is None:
            if self.chooser is None:
                raise RuntimeError("a QuantizedLayer runs inside QuantizedNetwork.forward")
            self.chosen = self.chooser(self.index, x)
        return self.compute(x, self.chosen)

    def compute(self, x: Tensor, choice: LayerChoice) -> Tensor:
        """Compute the layer on ``x`` (N, ...) at the given bits.

        Raises:
            AssignmentError: the bits are not among the candidates (nor 32, for float), or the
                probabilities do not fit the batch.
        """
        bits, modulated = taken_apart(choice)
        axis = self.spec.channel_axis
        if isinstance(bits, RelaxedBits):
            check_relaxed(self.spec.name, x, bits, len(self.options))
            if bits.sample is not None:
                return sampled(self._at_candidate, x, bits, modulated, axis, self.written_into)
            output = expectation(self._at_candidate, x, bits.probabilities)
        elif isinstance(bits, ImageBits):
            output = compute_per_image(self._at, x, bits.bits)
        else:
            output = self._at(x, bits)
        return output if modulated is None else modulated.applied(output, axis, self.written_into)

    @property
    def widths(self) -> tuple[int, ...]:
        """What tells its options apart: widths of its weights, or of its input, ascending."""
        return telling_widths(self.options)

    def quantized_weight(self, bits: int) -> Tensor:
        """The weight rounded to the grid of ``bits``, with gradients where they are enabled."""
        if bits == FLOAT_BITS:
            return self._scaled(self.inner.weight)
        position = self._position(bits, self.candidates)
        if self.rounded is not None:
            return self._at_levels(self.rounded, position, self.weight_log_step[position].exp())
        if torch.is_grad_enabled():
            return self._quantize_weight(position)
        version = self.version()
        kept = self._weights.get(position)
        if kept is None or kept[0] != version:
            kept = (version, self._quantize_weight(position))
            self._weights[position] = kept
        return kept[1]

    def quantized_input(self, x: Tensor, bits: int) -> Tensor:
        """The input rounded to the grid of ``bits``."""
        if bits == FLOAT_BITS:
            return x
        position = self._position(bits, self.activation_candidates)
        step, grid = self.activation_log_step[position].exp(), self.activation_grid(position)
        return self.scheme.input(x, step, grid, math.prod(self.spec.input_shape))

    def penalty(self, bits: int) -> Tensor | float:
        """What the scheme adds to the loss where the input has ``bits``."""
        if bits == FLOAT_BITS:
            return 0.0
        position = self._position(bits, self.activation_candidates)
        step = self.activation_log_step[position].exp()
        return self.scheme.penalty(step, self.activation_grid(position))

    def weight_grid(self, position: int) -> Grid:
        """The grid of the weights at a candidate's position."""
        return self.scheme.weight_grid(self.candidates[position])

    def activation_grid(self, position: int) -> Grid:
        """The grid of the input at a candidate's position."""
        bits = self.activation_candidates[position]
        return activation_grid(bits, int(self.activation_zero[position]))

    def version(self) -> tuple[int, ...]:
        """Another one whenever something that the quantised weights depend on has changed."""
        weight = self.inner.weight
        found = (weight.data_ptr(), weight._version, self.weight_log_step._version)
        if self.rounded is None:
            return found
        held = (self.rounded.codes, self.rounded.scale)
        return (*found, *(number for x in held for number in (x.data_ptr(), x._version)))

    def weight_codes(self, bits: int) -> Tensor:
        """The integers that stand for the weight at ``bits``, int16, of the weight's shape."""
        position = self._position(bits, self.candidates)
        weight = self.inner.weight
        if self.rounded is not None:
            return self.rounded.codes[position].view(weight.shape).short()
        terms = self.scheme.weight_terms(weight, self._weight_step(position), bits)
        return quantize_to_codes(*terms, self.weight_grid(position))

    @torch.no_grad()
    def weight_steps(self, bits: LayerBits) -> Tensor:
        """What codes are multiplied by to give the weight that is computed with, shape (O,).

        It depends on the activation's bits too where :attr:`rounded` has a correction.
        """
        position = self._position(bits.weight, self.candidates)
        steps = self._steps(position, bits.activation).expand(self.spec.out_channels)
        if self.alignment is not None:
            steps = steps * self.alignment.scale(self.options.index(bits))
        return steps if self.output_scale is None else steps * self.output_scale

    def bias(self, bits: LayerBits) -> Tensor | None:
        """What is added to the layer's output at the given bits, shape (O,)."""
        if self.alignment is not None and bits in self.options:
            offset = self.alignment.offset(self.options.index(bits))
            return offset if self.inner.bias is None else self.inner.bias + offset
        if self.rounded is None or bits.weight == FLOAT_BITS:
            return self.inner.bias
        position = self._position(bits.weight, self.candidates)
        correction = self.rounded.bias[position, self._activation_place(bits.activation)]
        return correction if self.inner.bias is None else self.inner.bias + correction

    @torch.no_grad()
    def align(self, x: Tensor) -> None:
        """Give each option a norm of its own, to be learned; nothing changes until it is trained.

        Args:
            x: what the layer receives of some images, shape (N, ...).
        """
        output = self._linear(x, self.quantized_weight(FLOAT_BITS), None)
        channels = output.transpose(0, self.spec.channel_axis).flatten(1)
        self.alignment = Alignment(len(self.options), channels.mean(1), channels.var(1))

    @torch.no_grad()
    @one_thread()
    def calibrate_weights(self, rule: StepSizeRule) -> None:
        """Set the weight step of every candidate from the weights."""
        self.rounded = None
        channels = self.weight_log_step.shape[1]
        values = self.inner.weight.reshape(channels, -1)
        for position in range(len(self.candidates)):
            steps = rule(values, self.weight_grid(position))
            self.weight_log_step[position] = steps.log()

    @torch.no_grad()
    @one_thread()
    def calibrate_input(self, values: Tensor, rule: StepSizeRule) -> None:
        """Set range, zero point and step of every candidate from values that the layer receives."""
        row = values.reshape(1, -1)
        self.activation_range.copy_(row.abs().max().clamp_min(1e-8))
        for position, bits in enumerate(self.activation_candidates):
            self.activation_zero[position] = zero_point(row, bits)
            steps = rule(row, self.activation_grid(position))
            self.activation_log_step[position] = steps[0].log()

    @torch.no_grad()
    def set_rounded(self, steps: Tensor, rounded: RoundedWeights) -> None:
        """Compute with weights rounded once, whatever becomes of the float ones.

        Args:
            steps: above zero, shape (K, O).
            rounded: codes on the grids of the K candidates.
        """
        self.weight_log_step.copy_(steps.log())
        self.rounded = rounded

    def _at(self, x: Tensor, bits: LayerBits) -> Tensor:
        alignment = self.alignment
        if alignment is not None and alignment.training and bits in self.options:
            return self._normalized(x, bits, alignment)
        if self.kernel is not None and not torch.is_grad_enabled() and self.kernel.takes(bits):
            return self.kernel(x, bits)
        weight, bias = self._weight_at(bits), self.bias(bits)
        return self._linear(self.quantized_input(x, bits.activation), weight, bias)

    def _normalized(self, x: Tensor, bits: LayerBits, alignment: Alignment) -> Tensor:
        """The layer in training, where each option is normalised by what is computed at it."""
        x = self.quantized_input(x, bits.activation)
        plain = self._linear(x, self._unaligned_weight(bits), None)
        option, bias = self.options.index(bits), self.inner.bias

        def normalized(own: Tensor) -> Tensor:
            output: Tensor = alignment(own, option)
            return output if bias is None else output + bias.view(-1, *(1,) * (own.ndim - 2))

        return on_channels(normalized, plain, self.spec.channel_axis)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """What the layer is without rounding."""
        if isinstance(self.inner, nn.Linear):
            return F.linear(x, weight, bias)
        output: Tensor = self.inner._conv_forward(x, weight, bias)
        return output

    def _weight_at(self, bits: LayerBits) -> Tensor:
        weight = self._unaligned_weight(bits)
        if self.alignment is None or bits not in self.options:
            return weight
        scale = self.alignment.scale(self.options.index(bits))
        return weight * scale.view(-1, *(1 for _ in weight.shape[1:]))

    def _unaligned_weight(self, bits: LayerBits) -> Tensor:
        if self.rounded is None or bits.weight == FLOAT_BITS:
            return self.quantized_weight(bits.weight)
        position = self._position(bits.weight, self.candidates)
        return self._at_levels(self.rounded, position, self._steps(position, bits.activation))

    def _at_candidate(self, x: Tensor, position: int) -> Tensor:
        return self._at(x, self.options[position])

    def _quantize_weight(self, position: int) -> Tensor:
        step, bits = self._weight_step(position), self.candidates[position]
        return self._scaled(self.scheme.weight(self.inner.weight, step, bits))

    def _weight_step(self, position: int) -> Tensor:
        weight = self.inner.weight
        return self.weight_log_step[position].exp().view(-1, *(1 for _ in weight.shape[1:]))

    def _steps(self, position: int, activation_bits: int) -> Tensor:
        if self.rounded is None:
            step, bits = self._weight_step(position), self.candidates[position]
            return self.scheme.weight_terms(self.inner.weight, step, bits)[1].flatten()
        steps = self.weight_log_step[position].exp()
        return steps * self.rounded.scale[position, self._activation_place(activation_bits)]

    def _at_levels(self, rounded: RoundedWeights, position: int, steps: Tensor) -> Tensor:
        weight = self.inner.weight
        levels = rounded.levels(position, self.weight_grid(position).offset, weight)
        return self._scaled(levels * steps.view(-1, *(1 for _ in weight.shape[1:])))

    def _activation_place(self, bits: int) -> int:
        return -1 if bits == FLOAT_BITS else self._position(bits, self.activation_candidates)

    def _scaled(self, weight: Tensor) -> Tensor:
        if self.output_scale is None:
            return weight
        return weight * self.output_scale.view(-1, *(1 for _ in weight.shape[1:]))

    def _position(self, bits: int, candidates: tuple[int, ...]) -> int:
        if bits not in candidates:
            raise AssignmentError(
                f"{self.spec.name}: got {bits} bits, its candidates are {list(candidates)}"
            )
        return candidates.index(bits)
