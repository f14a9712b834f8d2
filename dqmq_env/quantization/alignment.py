"""Statistics, a scale and a shift of each option of a layer, so that one successor fits them all.

Where one network serves several widths, what a layer computes at one of them differs from what it
computes at another by more than rounding: coarse grids shrink and shift the output of a channel,
and the images that get few bits are others than those that get many. A batch norm that all widths
share sees their mixture. So each option has a norm of its own before that (Yu et al. 2019,
Slimmable Neural Networks, section 3.3, and Jin et al. 2020, AdaBits, section 3.2, who train in
batches of one width); here widths mix within a batch, and the images at one option are normalised
among themselves. When the network is done the norms disappear in its steps and biases.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPSILON = 1e-5


class Alignment(nn.Module):
    """Normalises a layer's output channels as its option says.

    In training mode, output y of option k becomes ``exp(s_k) (y - m) / sqrt(v + e) + t_k`` with
    mean m and variance v of each channel over the images that are computed together; otherwise with
    those that training has tracked. It begins as the identity.

    Args:
        options: K, number of options.
        mean: of each output channel where nothing is rounded, shape (O,).
        variance: the same.

    Attributes:
        momentum: share of the latest images in what is tracked; ``None`` gives all images since
            :meth:`reset_running_stats` the same weight, as in a batch norm of PyTorch.
    """

    means: Tensor
    variances: Tensor
    images: Tensor

    def __init__(self, options: int, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.log_scale = nn.Parameter((variance + _EPSILON).log().div(2).repeat(options, 1))
        self.shift = nn.Parameter(mean.repeat(options, 1))
        self.register_buffer("means", mean.repeat(options, 1))
        self.register_buffer("variances", variance.repeat(options, 1))
        self.register_buffer("images", torch.zeros(options, dtype=torch.int64))
        self.momentum: float | None = 0.1

    def forward(self, output: Tensor, option: int) -> Tensor:
        """Normalise what was computed without bias at an option, shape (N, O, ...), in training."""
        if output[:, 0].numel() < 2:  # has no variance
            sides = (-1, *(1,) * (output.ndim - 2))
            return output * self.scale(option).view(sides) + self.offset(option).view(sides)
        self.images[option] += len(output)
        momentum = self.momentum
        if momentum is None:
            momentum = len(output) / int(self.images[option])
        normal: Tensor = F.batch_norm(
            output,
            self.means[option],
            self.variances[option],
            self.log_scale[option].exp(),
            self.shift[option],
            training=True,
            momentum=momentum,
            eps=_EPSILON,
        )
        return normal

    def scale(self, option: int) -> Tensor:
        """What the weights of each channel are multiplied by, above zero, shape (O,)."""
        return self.log_scale[option].exp() * (self.variances[option] + _EPSILON).rsqrt()

    def offset(self, option: int) -> Tensor:
        """What is added to each channel's output, shape (O,)."""
        return self.shift[option] - self.means[option] * self.scale(option)

    def reset_running_stats(self) -> None:
        """Forget how many images were tracked; an option that none comes to keeps what it has."""
        self.images.zero_()

    @torch.no_grad()
    def fold(self, scale: Tensor) -> None:
        """Move to before a factor of each output channel (O,), which multiplies offsets too."""
        for own in (self.shift, self.means):
            own.mul_(scale)
