"""A network that is given images of the usual brightness and contrast, whatever they were."""

import torch
from torch import Tensor, nn

from dqmq_env.data import ImageData
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.quality.mixture import Mixture

_IMAGES = 2_000
_LEAST = 0.01
"""Standard deviation, of pixels in [0, 1], below which an image is not stretched any further."""


class Standardized(nn.Module):
    """A float network behind a per-image standardisation of its input.

    Every image comes to the same mean and the same standard deviation over its pixels and channels:
    those that are usual in a mixture (mean of the one, geometric mean of the other). Methods that
    know nothing of image quality get from it what there is in brightness and contrast alone.

    Args:
        network: from normalised images (N, C, H, W) to logits.
        data: gives the normalisation, and ``train`` images.
        mixture: what is usual.
    """

    mean: Tensor
    std: Tensor
    usual_mean: Tensor
    usual_spread: Tensor

    def __init__(self, network: nn.Module, data: ImageData, mixture: Mixture) -> None:
        super().__init__()
        self.network = network
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(data, name)).view(1, -1, 1, 1))
        size = min(_IMAGES, len(data.train))
        images = MixedQualityBatches(data.train, mixture, size, seed=0, shift=0).at(0).images
        mean, spread = _moments(self._pixels(Normalize(data.mean, data.std)(images)))
        self.register_buffer("usual_mean", mean.mean())
        self.register_buffer("usual_spread", spread.log().mean().exp())
        self.train(network.training)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of normalised images (N, C, H, W)."""
        pixels = self._pixels(x)
        mean, spread = _moments(pixels)
        usual = (pixels - mean) * (self.usual_spread / spread) + self.usual_mean
        logits: Tensor = self.network((usual - self.mean) / self.std)
        return logits

    def _pixels(self, x: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) as they were before, in [0, 1]."""
        return x * self.std + self.mean


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each image (N, C, H, W), of shape (N, 1, 1, 1)."""
    sides = (1, 2, 3)
    mean = pixels.mean(sides, keepdim=True)
    return mean, pixels.std(sides, correction=0, keepdim=True).clamp_min(_LEAST)
