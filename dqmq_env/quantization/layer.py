"""A convolution or linear layer whose weights and input are quantised to bits chosen per call."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dqmq_env.errors import AssignmentError
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.choice import Chooser, LayerChoice, RelaxedBits
from dqmq_env.quantization.credit import credit_neighbours, reorder, split_by_candidate
from dqmq_env.quantization.grid import FLOAT_BITS, Grid, activation_grid, weight_grid
from dqmq_env.quantization.quantizers import learned_quantize
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.quantization.step_size import StepSizeRule, zero_point
from dqmq_env.threads import one_thread


class QuantizedLayer(nn.Module):
    """Wraps a ``Conv2d`` or ``Linear`` and keeps a step size for each candidate bit-width.

    Steps are stored as logarithms, which keeps them above zero and makes a step of an optimiser
    relative to their size (Jain et al. 2020, Trained Quantization Thresholds, section 3.3); their
    gradient is LSQ's, by the chain rule.

    Args:
        inner: the float layer; its weights are the ones trained.
        spec: what tracing found of it.
        candidates: bit-widths that it may get, ascending, each 1 to 8.
        per_channel: one weight step per output channel, or one for all.
    """

    weight_log_step: nn.Parameter
    activation_log_step: nn.Parameter
    activation_zero: Tensor
    activation_range: Tensor
    output_scale: Tensor | None

    def __init__(
        self,
        inner: nn.Conv2d | nn.Linear,
        spec: LayerSpec,
        candidates: Sequence[int],
        per_channel: bool = True,
    ) -> None:
        super().__init__()
        self.inner = inner
        self.spec = spec
        self.candidates = tuple(candidates)
        channels = spec.out_channels if per_channel else 1
        self.weight_log_step = nn.Parameter(torch.zeros(len(self.candidates), channels))
        self.activation_log_step = nn.Parameter(torch.zeros(len(self.candidates)))
        zeros = torch.zeros(len(self.candidates), dtype=torch.int64)
        self.register_buffer("activation_zero", zeros)
        self.register_buffer("activation_range", torch.ones(()))
        self.register_buffer("output_scale", None)
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
        if isinstance(choice, LayerBits):
            return self._at(x, choice)
        self._check(x, choice)
        if choice.sample is None:
            return self._expectation(x, choice.probabilities)
        return self._sampled(x, choice.probabilities, choice.sample)

    def quantized_weight(self, bits: int) -> Tensor:
        """The weight rounded to the grid of ``bits``, with gradients where they are enabled."""
        if bits == FLOAT_BITS:
            return self._scaled(self.inner.weight)
        position = self._position(bits)
        if torch.is_grad_enabled():
            return self._quantize_weight(position)
        weight = self.inner.weight
        version = (weight.data_ptr(), weight._version, self.weight_log_step._version)
        kept = self._weights.get(position)
        if kept is None or kept[0] != version:
            kept = (version, self._quantize_weight(position))
            self._weights[position] = kept
        return kept[1]

    def quantized_input(self, x: Tensor, bits: int) -> Tensor:
        """The input rounded to the grid of ``bits``."""
        if bits == FLOAT_BITS:
            return x
        position = self._position(bits)
        grid = self.activation_grid(position)
        scale = _gradient_scale(math.prod(self.spec.input_shape), grid)
        return learned_quantize(x, self.activation_log_step[position].exp(), grid, scale)

    def weight_grid(self, position: int) -> Grid:
        """The grid of the weights at a candidate's position."""
        return weight_grid(self.candidates[position])

    def activation_grid(self, position: int) -> Grid:
        """The grid of the input at a candidate's position."""
        return activation_grid(self.candidates[position], int(self.activation_zero[position]))

    @torch.no_grad()
    @one_thread()
    def calibrate_weights(self, rule: StepSizeRule) -> None:
        """Set the weight step of every candidate from the weights."""
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
        for position, bits in enumerate(self.candidates):
            self.activation_zero[position] = zero_point(row, bits)
            steps = rule(row, self.activation_grid(position))
            self.activation_log_step[position] = steps[0].log()

    def _at(self, x: Tensor, bits: LayerBits) -> Tensor:
        weight = self.quantized_weight(bits.weight)
        x = self.quantized_input(x, bits.activation)
        if isinstance(self.inner, nn.Linear):
            return F.linear(x, weight, self.inner.bias)
        output: Tensor = self.inner._conv_forward(x, weight, self.inner.bias)
        return output

    def _at_candidate(self, x: Tensor, position: int) -> Tensor:
        bits = self.candidates[position]
        return self._at(x, LayerBits(bits, bits))

    def _expectation(self, x: Tensor, probabilities: Tensor) -> Tensor:
        """The mean output, sum over k of p_k * f(Q_k(x), Q_k(w)); candidates of p = 0 are left out.

        Where probabilities are one-hot this is the hard form, to the last bit.
        """
        offered = (probabilities != 0).any(0).tolist()
        total: Tensor | None = None
        for position in range(len(self.candidates)):
            if not offered[position]:
                continue
            output = self._at_candidate(x, position)
            share = probabilities[:, position].repeat_interleave(len(x) // len(probabilities))
            weighted = output * share.view(-1, *(1 for _ in output.shape[1:]))
            total = weighted if total is None else total + weighted
        assert total is not None
        return total

    def _sampled(self, x: Tensor, probabilities: Tensor, sample: Tensor) -> Tensor:
        """The output at the sampled candidates; probabilities get their gradient by credit."""
        parts = split_by_candidate(sample, len(x))
        if len(parts) > 1:
            order = torch.cat([part.images for part in parts])
            x = reorder(x, order)
        pieces = [
            self._at_candidate(piece, part.position)
            for piece, part in zip(x.split([len(p.images) for p in parts]), parts, strict=True)
        ]
        output = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        credited = torch.is_grad_enabled() and probabilities.requires_grad
        if credited:
            output = credit_neighbours(output, x, probabilities, parts, self._at_candidate)
        if len(parts) > 1:
            return reorder(output, order.argsort())
        # what was saved for credit must outlive a network that writes into what it gets
        return output.clone() if credited else output

    def _quantize_weight(self, position: int) -> Tensor:
        weight = self.inner.weight
        grid = self.weight_grid(position)
        step = self.weight_log_step[position].exp().view(-1, *(1 for _ in weight.shape[1:]))
        scale = _gradient_scale(weight.numel() // step.numel(), grid)
        return self._scaled(learned_quantize(weight, step, grid, scale))

    def _scaled(self, weight: Tensor) -> Tensor:
        if self.output_scale is None:
            return weight
        return weight * self.output_scale.view(-1, *(1 for _ in weight.shape[1:]))

    def _position(self, bits: int) -> int:
        if bits not in self.candidates:
            raise AssignmentError(
                f"{self.spec.name}: got {bits} bits, its candidates are {list(self.candidates)}"
            )
        return self.candidates.index(bits)

    def _check(self, x: Tensor, choice: RelaxedBits) -> None:
        shape = tuple(choice.probabilities.shape)
        count = len(self.candidates)
        if len(shape) != 2 or shape[1] != count or not shape[0] or len(x) % shape[0]:
            raise AssignmentError(
                f"{self.spec.name}: got probabilities of shape {shape}, allowed is (groups, "
                f"{count}) with groups dividing the batch of {len(x)}"
            )
        sample = choice.sample
        if sample is None:
            return
        if sample.shape != shape[:1] or int(sample.min()) < 0 or int(sample.max()) >= count:
            raise AssignmentError(
                f"{self.spec.name}: got the sample {sample.tolist()}, allowed is a position from "
                f"0 to {count - 1} for each of {shape[0]} groups"
            )


def _gradient_scale(count: int, grid: Grid) -> float:
    """LSQ's scale of a step's gradient (Esser et al. 2020, section 2.2), for ``count`` values."""
    return 1 / math.sqrt(count * max(grid.high, 1))
