"""How a layer is told its bits during a forward pass."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.channels import on_channels
from dqmq_env.quantization.scaling import scale_and_shift


@dataclass(frozen=True)
class RelaxedBits:
    """Probabilities over a layer's candidate bits, weights and activations decided jointly.

    A batch of N images consists of G groups of N / G consecutive images; a group shares its bits.
    G is 1 where the whole batch does and N where each image has bits of its own.

    Attributes:
        probabilities: shape (G, K), over the layer's K candidates, rows summing to one.
        sample: index of a candidate for each group, int64, shape (G,). Where it is given, the layer
            computes just that candidate and passes gradients straight through to the
            probabilities; where it is ``None``, the layer computes the expectation.
        credited: which candidates next to the sampled one the gradient of the probabilities counts,
            as offsets in the list of candidates: both, or one, which then has twice the weight.
            Where one of the two is drawn at random, the gradient is the same on average.
    """

    probabilities: Tensor
    sample: Tensor | None = None
    credited: tuple[int, ...] = (-1, 1)


@dataclass(frozen=True)
class ImageBits:
    """Bits of each image of a batch.

    Without gradients, an image's output does not depend on which others are in the batch. With
    gradients, they reach what was computed with, and batch normalisation sees the whole batch.

    Attributes:
        bits: one pair for each of the N images.
    """

    bits: tuple[LayerBits, ...]


HardBits = LayerBits | ImageBits


@dataclass(frozen=True)
class Modulated:
    """Bits, and a scale and an offset of each output channel, of each group of images.

    A batch of N images consists of G groups of N / G consecutive images. At work both go into the
    rounding that follows, which scales and shifts each channel anyway.

    Attributes:
        bits: what the layer is computed at.
        scale: what its output is multiplied by, shape (G, O).
        offset: what is added then, shape (G, O).
    """

    bits: HardBits | RelaxedBits
    scale: Tensor
    offset: Tensor

    def applied(self, output: Tensor, axis: int, written_into: bool) -> Tensor:
        """The layer's output, scaled and shifted; in place without gradients.

        Args:
            output: of N images; may be written into.
            axis: where its channels are, see
                :attr:`~dqmq_env.quantization.spec.LayerSpec.channel_axis`.
            written_into: whether the network may write into what it gets.
        """
        scale, offset = of_images(self.scale, output), of_images(self.offset, output)

        def change(x: Tensor) -> Tensor:
            return scale_and_shift(x, scale, offset, written_into)

        return on_channels(change, output, axis)

    def of(self, images: Tensor, count: int) -> "Modulated":
        """The same of some of ``count`` images, int64."""

        def rows(own: Tensor) -> Tensor:
            return own if len(own) == 1 else own[images // (count // len(own))]

        return replace(self, scale=rows(self.scale), offset=rows(self.offset))


def of_images(rows: Tensor, x: Tensor) -> Tensor:
    """Rows of G groups of consecutive images, shape (G, ...), as those of each image.

    Args:
        rows: a single one stays alone, and is broadcast; then nothing is asked about the number of
            images, which an exporter leaves open.
        x: of N images, shape (N, ...), N a multiple of G.
    """
    if 1 < len(rows) < len(x):
        return rows.repeat_interleave(len(x) // len(rows), 0)
    return rows


LayerChoice = HardBits | RelaxedBits | Modulated


def taken_apart(choice: LayerChoice) -> tuple[HardBits | RelaxedBits, Modulated | None]:
    """The bits, and what the output is scaled and shifted by where it is."""
    return (choice.bits, choice) if isinstance(choice, Modulated) else (choice, None)


Chooser = Callable[[int, Tensor], LayerChoice]
"""Maps a layer's index in forward order, and the activation that it receives, to its bits."""
