"""Give a quantised layer's output the mean and the spread of the float layer's.

Mean: Nagel et al. 2019 (Data-Free Quantization through Weight Equalization and Bias Correction),
section 4.2, with the expected input taken from calibration images. Spread: as weight correction in
Banner et al. 2019 (Post Training 4-bit Quantization), section 5, of outputs in place of weights,
so that rounding neither damps nor amplifies a signal on its way through many layers.

Shapes: G groups, n positions, C columns, O output channels of a group, K widths of the weights, A
widths of the activations.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dqmq_env.quantization.patches import Patches

_LEAST, _MOST = 0.5, 2.0
_SMALLEST = 1e-12


class Moments(NamedTuple):
    """Of the input over positions, and of nothing else.

    Attributes:
        mean: shape (G, 1, C).
        second: ``E[x x^T]``, shape (G, C, C).
    """

    mean: Tensor
    second: Tensor

    @classmethod
    def of(cls, patches: Tensor) -> "Moments":
        """Those of patches (G, n, C)."""
        second = patches.transpose(1, 2) @ patches
        return cls(patches.mean(1, keepdim=True), second.div_(patches.shape[1]))

    def spread(self, rows: Tensor) -> Tensor:
        """The standard deviation of ``rows @ x`` for rows (G, R, C), shape (G, R)."""
        variance = ((rows @ self.second) * rows).sum(2) - self.centre(rows).square()
        return variance.clamp_min(_SMALLEST).sqrt()

    def centre(self, rows: Tensor) -> Tensor:
        """The mean of ``rows @ x``, shape (G, R)."""
        return (self.mean * rows).sum(2)


class WeightChange(NamedTuple):
    """What makes up for the rounding of weights: ``scale * y + shift``, each (G, K * O)."""

    scale: Tensor
    shift: Tensor


class InputChange(NamedTuple):
    """What makes up for the rounding of the input at one width.

    Attributes:
        scale: of each output channel, shape (G, O).
        mean: of the rounded input, shape (G, 1, C).
        kept: whether a channel is changed at all, shape (G, O).
    """

    scale: Tensor
    mean: Tensor
    kept: Tensor

    def part(self, share: float, mean: Tensor) -> "InputChange":
        """A share of the change: all of it at 1, none at 0; ``mean`` is that of exact input."""
        return self._replace(
            scale=1 + share * (self.scale - 1), mean=torch.lerp(mean, self.mean, share)
        )


def weight_change(
    weight: Tensor, rounded: Tensor, moments: Moments, held_out: Tensor
) -> WeightChange:
    """Compare the layer's outputs at float weights and at rounded ones.

    Args:
        weight: shape (G, O, C).
        rounded: shape (G, K * O, C).
        moments: of the layer's input.
        held_out: patches (G, n, C) of other images: a channel keeps the change only where it brings
            mean and spread nearer to those of the float output there.
    """
    repeats = rounded.shape[1] // weight.shape[1]
    centre, spread = moments.centre(weight), moments.spread(weight)
    scale = (spread.repeat(1, repeats) / moments.spread(rounded)).clamp(_LEAST, _MOST)
    shift = centre.repeat(1, repeats) - scale * moments.centre(rounded)
    exact = (held_out @ weight.transpose(1, 2)).repeat(1, 1, repeats)
    kept = _nearer(exact, held_out @ rounded.transpose(1, 2), scale, shift)
    return WeightChange(torch.where(kept, scale, 1.0), torch.where(kept, shift, 0.0))


def input_change(
    weight: Tensor, mean: Tensor, exact: Patches, outputs: Patches, rounded: Patches
) -> InputChange:
    """Compare the float layer's outputs of exact and of rounded input.

    Args:
        weight: shape (G, O, C).
        mean: of the exact input, shape (G, 1, C).
        exact: some patches.
        outputs: of the float layer for them, shapes (G, n, O).
        rounded: the same patches, rounded; what is held out decides as in :func:`weight_change`.
    """
    found = rounded.each(lambda patches: patches @ weight.transpose(1, 2))
    scale = (_spread(outputs.fitted) / _spread(found.fitted)).clamp(_LEAST, _MOST)
    moved = mean + rounded.fitted.mean(1, keepdim=True) - exact.fitted.mean(1, keepdim=True)
    shift = ((mean - scale[..., None] * moved) * weight).sum(2)
    kept = _nearer(outputs.held_out, found.held_out, scale, shift)
    return InputChange(torch.where(kept, scale, 1.0), moved, kept)


def no_change(weight: Tensor, mean: Tensor) -> InputChange:
    """That of an input whose rounding is not to be made up for."""
    ones = torch.ones_like(weight[:, :, 0])
    return InputChange(ones, mean, torch.zeros_like(ones, dtype=torch.bool))


def correct(
    rounded: Tensor, mean: Tensor, weights: WeightChange, inputs: Sequence[InputChange]
) -> tuple[Tensor, Tensor]:
    """Scale and bias of every pair of widths, and of each width of the weights at float input.

    Args:
        rounded: weights, shape (G, K * O, C).
        mean: of the exact input, shape (G, 1, C).
        weights: see :func:`weight_change`.
        inputs: one :class:`InputChange` for each of the A widths.

    Returns:
        Two tensors of the shape (K, A + 1, G * O).
    """
    scales, biases = [], []
    aimed = weights.scale * (mean * rounded).sum(2)
    for change in inputs:
        repeats = rounded.shape[1] // change.scale.shape[1]
        scale = weights.scale * change.scale.repeat(1, repeats)
        shift = aimed - scale * (change.mean * rounded).sum(2)
        scales.append(scale)
        biases.append(weights.shift + torch.where(change.kept.repeat(1, repeats), shift, 0.0))
    channels = inputs[0].scale.shape[1]
    tables = torch.stack([*scales, weights.scale]), torch.stack([*biases, weights.shift])
    scale, bias = (
        table.unflatten(2, (-1, channels)).permute(2, 0, 1, 3).flatten(2) for table in tables
    )
    return scale, bias


def _spread(outputs: Tensor) -> Tensor:
    """The standard deviation over positions of outputs (G, n, R)."""
    centred = outputs - outputs.mean(1, keepdim=True)
    return centred.square_().mean(1).clamp_min_(_SMALLEST).sqrt_()


def _nearer(exact: Tensor, changed: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Whether ``scale * changed + shift`` has a mean and spread nearer to those of ``exact``.

    Distances are those of Wasserstein between normal distributions, the squared difference of
    means plus that of standard deviations.

    Args:
        exact: shape (G, n, R).
        changed: shape (G, n, R).
        scale: shape (G, R).
        shift: shape (G, R).
    """
    mean, spread = changed.mean(1), _spread(changed)
    aim, wide = exact.mean(1), _spread(exact)
    before = (mean - aim).square() + (spread - wide).square()
    after = (scale * mean + shift - aim).square() + (scale * spread - wide).square()
    return after < before
