"""Ways to quantise a trained network without training it further."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dqmq_env.progress import progress
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.correction import (
    Moments,
    correct,
    input_change,
    no_change,
    weight_change,
)
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.inputs import sampled_values, visit_inputs
from dqmq_env.quantization.layer import QuantizedLayer
from dqmq_env.quantization.patches import Patches, divide, take_patches
from dqmq_env.quantization.quantizers import quantize
from dqmq_env.quantization.rounded import RoundedWeights
from dqmq_env.quantization.rounding import ErrorFeedback, Nearest, Rounding
from dqmq_env.quantization.rounding_choice import round_rows
from dqmq_env.quantization.step_size import MeanSquaredError, StepSizeRule
from dqmq_env.quantization.surgery import eval_mode
from dqmq_env.threads import one_thread

if TYPE_CHECKING:
    from dqmq_env.quantization.network import QuantizedNetwork

_LEAST_SQUARES = MeanSquaredError()
_FEW = 512
_PATIENCE = 5.0
# activations of more bits have errors without a mean to speak of
_NARROW = 4

_Taken = tuple[Tensor, Patches | None]


class PostTraining(Protocol):
    """Makes a network ready for every assignment; a layer depends on its own bits alone."""

    def __call__(self, network: "QuantizedNetwork", x: Tensor) -> None:
        """Calibrate.

        Args:
            network: changed in place; its batch norms should be folded.
            x: normalised images, shape (N, C, H, W), from the train split.
        """
        ...


@dataclass(frozen=True)
class StepSearch:
    """Steps alone: weights are rounded to the nearest level.

    Attributes:
        weight_rule: sets the steps of weights.
        activation_rule: sets the steps of activations.
    """

    weight_rule: StepSizeRule = _LEAST_SQUARES
    activation_rule: StepSizeRule = _LEAST_SQUARES

    def __call__(self, network: "QuantizedNetwork", x: Tensor) -> None:
        """See :class:`PostTraining`."""
        network.calibrate(x, self.weight_rule, self.activation_rule)


@dataclass(frozen=True)
class Reconstruction:
    """Weights rounded for the least error of each layer's output, whose moments are then restored.

    Each layer is looked at on its own, with the inputs that it has in the float network. The step
    of a weight channel has the least squared error, weighted by the mean square of the input that
    each weight meets. Every rounding is tried, and each channel at each width keeps the one with
    the least output error on calibration images that were held out. Mean and spread of the output
    are corrected as :mod:`~dqmq_env.quantization.correction` says, again where that is nearer on
    images held out. A layer with one step for all channels keeps nearest rounding, and so does one
    whose channels have very many weights.

    Attributes:
        roundings: what is compared at 6 bits and less; above, where all are alike, weights get the
            first.
        shares: of the correction for the rounding of activations to 4 bits and less, which counts
            on inputs that other layers may have changed; at each width, the one with the logits
            nearest to float on images held out is kept for the whole network.
        patches: positions of a layer's input, over all images, that it is fitted to.
        rule: sets the steps.
        widest: weights of a channel up to which a layer is looked at. What that takes grows with
            their square, at least 32 bytes of it: 2.7 GB at the usual 9,216, which the first linear
            layer of AlexNet has. That of VGG, with 25,088, would take 20 GB.
    """

    roundings: Sequence[Rounding] = (Nearest(), ErrorFeedback())
    shares: Sequence[float] = (1.0, 0.5, 0.0)
    patches: int = 4096
    rule: MeanSquaredError = _LEAST_SQUARES
    widest: int = 9216

    @torch.no_grad()
    def __call__(self, network: "QuantizedNetwork", x: Tensor) -> None:
        """See :class:`PostTraining`."""
        for layer in network.layers:
            if not self._reconstructs(layer):
                layer.calibrate_weights(self.rule)
            layer.rounded = None

        tables: dict[int, list[tuple[Tensor, Tensor]]] = {}

        def take(layer: QuantizedLayer, activation: Tensor, uses: int) -> _Taken:
            values = sampled_values(activation, uses)
            if not self._reconstructs(layer):
                return values, None
            return values, take_patches(layer, activation, -(-self.patches // uses))

        def visit(layer: QuantizedLayer, taken: list[_Taken]) -> None:
            layer.calibrate_input(torch.cat([values for values, _ in taken]), self.rule)
            if patches := [own for _, own in taken if own is not None]:
                tables[layer.index] = self._reconstruct(layer, Patches.joined(patches))
            bar.update()

        with progress(len(network.layers), "rounding", "layer", delay=_PATIENCE) as bar:
            visit_inputs(network, x, take, visit)
        if len(self.shares) > 1 and tables:
            self._settle(network, divide(x)[1], tables)

    def _reconstructs(self, layer: QuantizedLayer) -> bool:
        return layer.weight_log_step.shape[1] > 1 and layer.inner.weight[0].numel() <= self.widest

    @one_thread()
    def _reconstruct(self, layer: QuantizedLayer, patches: Patches) -> list[tuple[Tensor, Tensor]]:
        """Round a layer's weights; return scales and biases for each share."""
        groups, _, columns = patches.fitted.shape
        weight = layer.inner.weight.detach().reshape(groups, -1, columns)
        moments = Moments.of(patches.fitted)
        mean, held_out = moments.mean, patches.held_out
        grids = [layer.weight_grid(position) for position in range(len(layer.candidates))]
        levels, steps = round_rows(
            weight, grids, moments.second, held_out, self.rule, self.roundings
        )
        rounded = levels * steps[..., None]
        some = patches.thinned(_FEW)
        outputs = some.each(lambda rows: rows @ weight.transpose(1, 2))
        inputs = []
        for position, width in enumerate(layer.activation_candidates):
            if width > _NARROW:
                inputs.append(no_change(weight, mean))
                continue
            received = some.each(_rounding_of_input(layer, position))
            inputs.append(input_change(weight, mean, some, outputs, received))
        change = weight_change(weight, rounded, moments, held_out)
        tables = [
            correct(rounded, mean, change, [of_one.part(share, mean) for of_one in inputs])
            for share in self.shares
        ]
        codes = levels.unflatten(1, (len(grids), -1)).transpose(0, 1).flatten(1, 2)
        offsets = codes.new_tensor([grid.offset for grid in grids])[:, None, None]
        layer.set_rounded(
            steps.unflatten(1, (len(grids), -1)).transpose(0, 1).flatten(1),
            RoundedWeights((codes - offsets).to(torch.int8), *tables[0]),
        )
        return tables

    def _settle(
        self,
        network: "QuantizedNetwork",
        x: Tensor,
        tables: Mapping[int, Sequence[tuple[Tensor, Tensor]]],
    ) -> None:
        """Keep, at each narrow width of activations, the share with the logits nearest to float.

        Nearness is the Kullback-Leibler divergence with all layers at that width.
        """
        layers = [network.layers[index] for index in tables]
        widths = {width for layer in layers for width in layer.activation_candidates}

        def install(width: int, place: int) -> None:
            for layer in layers:
                if width in layer.activation_candidates:
                    assert layer.rounded is not None
                    scale, bias = tables[layer.index][place]
                    position = layer.activation_candidates.index(width)
                    layer.rounded.scale[:, position] = scale[:, position]
                    layer.rounded.bias[:, position] = bias[:, position]

        with eval_mode(network):
            exact = network(x, network.uniform(FLOAT_BITS)).log_softmax(1)
            for width in sorted(width for width in widths if width <= _NARROW):
                divergences = []
                for place in range(len(self.shares)):
                    install(width, place)
                    found = network(x, _all_near(network, width)).log_softmax(1)
                    apart = F.kl_div(found, exact, reduction="batchmean", log_target=True)
                    divergences.append(float(apart))
                install(width, min(range(len(divergences)), key=divergences.__getitem__))


def _all_near(network: "QuantizedNetwork", bits: int) -> BitAssignment:
    """Each layer at those of its candidates that are nearest to a width."""

    def near(widths: Sequence[int]) -> int:
        return min(widths, key=lambda width: (abs(width - bits), width))

    return BitAssignment(
        {
            layer.spec.name: (near(layer.candidates), near(layer.activation_candidates))
            for layer in network.layers
        }
    )


def _rounding_of_input(layer: QuantizedLayer, position: int) -> Callable[[Tensor], Tensor]:
    step, grid = layer.activation_log_step[position].exp(), layer.activation_grid(position)
    return lambda values: quantize(values, step, grid)


DEFAULT_POST_TRAINING: Final[PostTraining] = Reconstruction()
