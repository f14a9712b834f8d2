"""How well logits agree with labels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dqmq_env.quality.condition import Condition
from dqmq_env.quality.conditioned import ConditionedImages


def judge(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Top-1 accuracy in [0, 1] and mean cross-entropy in nats, of logits (N, classes)."""
    accuracy = float((logits.argmax(1) == labels).double().mean())
    return accuracy, float(F.cross_entropy(logits.double(), labels))


@torch.no_grad()
def accuracy_under(
    model: nn.Module, images: ConditionedImages, condition: Condition | str, batch: int = 500
) -> float:
    """Share of images that ``model`` classifies correctly, in [0, 1].

    Args:
        model: maps uint8 images (N, C, H, W) to logits (N, classes); in eval mode.
        images: the split.
        condition: what the images go through first.
        batch: images in one forward pass.
    """
    corrupted = images.under(condition)
    labels = images.split.labels
    logits = torch.cat([model(part) for part in corrupted.split(batch)])
    return judge(logits, labels)[0]
