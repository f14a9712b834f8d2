"""What the logits of an image are judged by in training."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dqmq_env.errors import SettingError

Losses = Callable[[Tensor], Tensor]
"""From logits (N, classes) to the loss of each image, shape (N,)."""


class Criterion:
    """Cross-entropy with the label, and with what the float network says of the same image.

    With t the probabilities that the float network gives, the loss of an image is
    ``(1 - distillation) * CE(label) + distillation * KL(t || logits)`` (Hinton et al. 2015,
    Distilling the Knowledge in a Neural Network, section 2, at a temperature of 1).

    Args:
        teacher: the float network, in eval mode.
        distillation: weight of the teacher, in [0, 1]; at 0 it is never asked.
        device: where the images are.

    Raises:
        SettingError: the weight is outside [0, 1].
    """

    def __init__(
        self, teacher: nn.Module, distillation: float, device: torch.device | str = "cpu"
    ) -> None:
        if not 0 <= distillation <= 1:
            raise SettingError(f"distillation: got {distillation}, allowed is [0, 1]")
        self._weight = distillation
        self._teacher = copy.deepcopy(teacher).to(device).eval() if distillation else None

    def __call__(self, x: Tensor, labels: Tensor) -> Losses:
        """What judges the logits of these images; the float network is asked once, now.

        Args:
            x: normalised images, shape (N, C, H, W).
            labels: int64, shape (N,).
        """
        if self._teacher is None:
            return lambda logits: F.cross_entropy(logits, labels, reduction="none")
        with torch.no_grad():
            said = self._teacher(x).log_softmax(1)

        def losses(logits: Tensor) -> Tensor:
            own = logits.log_softmax(1)
            hard = F.nll_loss(own, labels, reduction="none")
            soft = F.kl_div(own, said, reduction="none", log_target=True).sum(1)
            return (1 - self._weight) * hard + self._weight * soft

        return losses
