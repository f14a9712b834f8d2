"""A grid of the image itself that follows it: brightness and contrast nearer to what is usual.

What a network receives is rounded before its first layer, and how well a pale or a dark image fills
that grid decides what all later layers can do with it. Where the grid follows the image, low
contrast costs next to nothing. How far to go is learned with the weights.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.hybrid.eight_bits import MAC_BOPS
from agents.hybrid.eyes import SIDE, Scene
from dqmq_env.quantization.choice import of_images

_LEAST = 0.01
"""Standard deviation, of pixels in [0, 1], below which an image is not stretched any further."""


class Standardization(nn.Module):
    """Scale and offset of an image, from the mean and the standard deviation of its pixels.

    With m and s, the two over all pixels in [0, 1] of all channels, and m_0 and s_0, what is usual
    (the mean of m, the geometric mean of s), pixel p becomes ::

        (s_0 / s)^a (p - m) + m + b (m_0 - m)

    At a = b = 0 nothing changes; at 1 all images have the same mean and spread. Where weights are
    trained, a and b are too, from 1 on (:meth:`begin`); weights that are not were made for images
    as they are. Both m and s follow from the means and the spreads of cells, which the policy sees.

    Args:
        shape: of an image, (C, H, W).
    """

    power: nn.Parameter
    pull: nn.Parameter
    usual_mean: Tensor
    usual_spread: Tensor
    centre: Tensor
    unit: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self._shape = tuple(shape)
        self.power = nn.Parameter(torch.zeros(()))
        self.pull = nn.Parameter(torch.zeros(()))
        self.register_buffer("usual_mean", torch.full((), 0.5))
        self.register_buffer("usual_spread", torch.full((), 0.25))
        self.register_buffer("centre", torch.zeros(shape[0]))
        self.register_buffer("unit", torch.ones(shape[0]))

    def forward(self, x: Tensor, scene: Scene) -> Tensor:
        """Images (N, C, H, W) as the network receives them, standardised.

        Args:
            x: pixels, less :attr:`centre`, in units of :attr:`unit`.
            scene: what is seen of each of G groups of consecutive images, cells among it.
        """
        mean, spread = _moments(scene)
        scale = torch.exp(self.power * (self.usual_spread.log() - spread.log()))[:, None]
        apart = mean[:, None] - self.centre
        offset = (apart * (1 - scale) + self.pull * (self.usual_mean - mean)[:, None]) / self.unit
        scale, offset = of_images(scale, x), of_images(offset, x)
        return x * scale[:, :, None, None] + offset[:, :, None, None]

    @torch.no_grad()
    def begin(self) -> None:
        """Begin where all images have the same mean and spread."""
        self.power.fill_(1.0)
        self.pull.fill_(1.0)

    @torch.no_grad()
    def calibrate(self, images: Tensor, x: Tensor, scene: Scene) -> None:
        """Let it know what is usual, and how pixels become what the network receives.

        Args:
            images: uint8, shape (N, C, H, W).
            x: the same as they enter the network.
            scene: what is seen of each of them.
        """
        mean, spread = _moments(scene)
        self.usual_mean.copy_(mean.mean())
        self.usual_spread.copy_(spread.log().mean().exp())
        pixels = images.float() / 255
        sides = (0, 2, 3)
        varied = x.std(sides) > 0  # a channel that never does may have any unit
        self.unit.copy_(torch.where(varied, pixels.std(sides) / x.std(sides), 1.0))
        self.centre.copy_(pixels.mean(sides) - x.mean(sides) * self.unit)

    def bops(self) -> int:
        """Bit operations for one image, beside looking at it."""
        pixels = math.prod(self._shape)  # each by a factor of 16 bits, and an offset of 16
        moments = 2 * 2 * self._shape[0] * SIDE**2  # sums and sums of squares, of 16 bits
        return (4 * pixels + 2 * moments) * MAC_BOPS


def _moments(scene: Scene) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of all pixels, each of shape (G,)."""
    assert scene.cells is not None
    means, spreads = scene.cells.chunk(2, 1)
    mean = means.mean(1)
    variance = (spreads.square() + means.square()).mean(1) - mean.square()
    return mean, variance.clamp_min(_LEAST**2).sqrt()
