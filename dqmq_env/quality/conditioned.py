"""A split of images seen under conditions: the same corrupted images every time one asks."""

from dataclasses import dataclass, field

from torch import Tensor

from dqmq_env.data import ImageSplit
from dqmq_env.quality.condition import CLEAN, Condition
from dqmq_env.quality.corruptions import corrupt
from dqmq_env.quality.descriptors import describe
from dqmq_env.randomness import torch_generator


@dataclass(frozen=True)
class ConditionedImages:
    """The images of a split under any condition, corrupted once and kept.

    Corruption is fixed by ``(seed, condition)``: whoever evaluates on the same split under the same
    condition sees the same pixels, in any process and in any order.

    Attributes:
        split: the images as they are in the data set.
        seed: names the draw of noise.
    """

    split: ImageSplit
    seed: int = 0
    _kept: dict[Condition, Tensor] = field(default_factory=dict, repr=False, compare=False)
    _described: dict[Condition, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def under(self, condition: Condition | str) -> Tensor:
        """Images of shape (N, C, H, W), uint8, under ``condition``; do not write into them.

        Raises:
            ConditionError: there is no such condition.
        """
        condition = Condition.parse(condition)
        if condition == CLEAN:
            return self.split.images
        if condition not in self._kept:
            generator = torch_generator(self.seed, "condition", str(condition))
            self._kept[condition] = corrupt(self.split.images, condition, generator=generator)
        return self._kept[condition]

    def described_under(self, condition: Condition | str) -> Tensor:
        """The quality descriptor of each image under ``condition``, shape (N, 6), in [0, 1].

        Raises:
            ConditionError: there is no such condition.
        """
        condition = Condition.parse(condition)
        if condition not in self._described:
            self._described[condition] = describe(self.under(condition))
        return self._described[condition]
