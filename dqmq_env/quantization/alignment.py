"""A scale and a shift of each option of a layer, learned, so that one successor fits them all.

Where one network serves several widths, what a layer computes at one of them differs from what it
computes at another by more than rounding: coarse grids shrink and shift the output of a channel,
and the images that get few bits are others than those that get many. A batch norm that all widths
share sees their mixture. Norms of their own for each width (Yu et al. 2019, Slimmable Neural
Networks, section 3.3) need batches of one width; a scale and a shift of each channel go with
batches in which widths mix, and when the network is done they disappear in its steps and biases.
"""

import torch
from torch import Tensor, nn


class Alignment(nn.Module):
    """Multiplies a layer's output channels, and adds to them, as its option says.

    Args:
        options: K, number of options.
        channels: O, output channels.
    """

    def __init__(self, options: int, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(options, channels))
        self.shift = nn.Parameter(torch.zeros(options, channels))

    def scale(self, option: int) -> Tensor:
        """What the weights of each channel are multiplied by, above zero, shape (O,)."""
        return self.log_scale[option].exp()

    @torch.no_grad()
    def fold(self, scale: Tensor) -> None:
        """Move to before a factor of each output channel (O,), which multiplies the shift too."""
        self.shift.mul_(scale)
