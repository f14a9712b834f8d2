"""A small MobileNetV2 (Sandler et al. 2018) for images of 28 to 32 pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# expansion, channels, blocks, stride of the first block
_STAGES = ((1, 16, 1, 1), (4, 24, 2, 2), (4, 32, 3, 2), (4, 64, 2, 1))
_HEAD = 192


class InvertedResidual(nn.Module):
    """Expansion by a 1x1, a depthwise 3x3, projection by a 1x1; a shortcut where shapes agree."""

    def __init__(self, in_channels: int, channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = _unit(in_channels, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _unit(hidden, hidden, 3, stride, hidden)
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        out: Tensor = self.norm(self.project(self.depthwise(self.expand(x))))
        return x + out if self.shortcut else out


class SmallMobileNetV2(nn.Module):
    """MobileNetV2 with eight blocks, without the strides that large images need.

    Args:
        in_channels: 1 for grey images, 3 for colour.
        classes: number of logits.
    """

    def __init__(self, in_channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.stem = _unit(in_channels, 16, 3)
        blocks: list[nn.Module] = []
        width = 16
        for expansion, channels, count, stride in _STAGES:
            for number in range(count):
                first = stride if number == 0 else 1
                blocks.append(InvertedResidual(width, channels, expansion, first))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = _unit(width, _HEAD, 1)
        self.classifier = nn.Linear(_HEAD, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (N, in_channels, H, W) to logits (N, classes)."""
        x = self.head(self.blocks(self.stem(x)))
        x = F.adaptive_avg_pool2d(x, 1)
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits


def _unit(
    in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU6(),
    )
