"""How bits do on ``search`` images of mixed quality, beside the float network on the same ones."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dqmq_env.evaluation.batch_pass import images_in_a_part
from dqmq_env.problem.estimates import half_width
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.rule import Rule

_NORMAL = 1.96


@dataclass(frozen=True)
class Verdict:
    """Accuracy on some images, with 95% intervals over the choice of the images.

    Attributes:
        images: their number.
        accuracy: top-1, in [0, 1].
        half: half its interval.
        lost: by how much it is below that of the float network on the same images.
        lost_half: half the interval of that difference.
    """

    images: int
    accuracy: float
    half: float
    lost: float
    lost_half: float

    @property
    def interval(self) -> tuple[float, float]:
        """Of the accuracy, cut at 0 and 1."""
        return max(0.0, self.accuracy - self.half), min(1.0, self.accuracy + self.half)


class Judge:
    """Judges bits on all ``search`` images, each under a condition drawn from the mixture.

    Args:
        problem: gives network, images and mixture; the draw depends on its seed.
    """

    @torch.no_grad()
    def __init__(self, problem: NetworkProblem) -> None:
        self._quantized = problem.quantized
        search = problem.data.search
        batches = MixedQualityBatches(search, problem.mixture, len(search), problem.seed, shift=0)
        batch = batches.at(0)
        self._conditions = [str(condition) for condition in batch.conditions]
        self._x, self._labels = problem.normalize(batch.images), batch.labels
        self._part = images_in_a_part(problem.layers)
        # a clone, because the network's code may write into its input
        parts = [problem.network(part.clone()) for part in self._x.split(self._part)]
        self._exact = torch.cat(parts).argmax(1) == self._labels

    @property
    def float_verdict(self) -> Verdict:
        """That of the float network."""
        return self._verdict(self._exact)

    @torch.no_grad()
    def __call__(self, bits: BitAssignment | Rule) -> Verdict:
        """Judge an assignment, or a rule, each image at the bits of its condition."""
        if isinstance(bits, BitAssignment):
            return self._verdict(self._classes(self._x, bits) == self._labels)
        classes = torch.empty_like(self._labels)
        for assignment in set(bits.values()):
            own = [bits[condition] == assignment for condition in self._conditions]
            chosen = torch.tensor(own)
            if chosen.any():
                classes[chosen] = self._classes(self._x[chosen], assignment)
        return self._verdict(classes == self._labels)

    def _classes(self, x: Tensor, assignment: BitAssignment) -> Tensor:
        """The classes that images are taken for."""
        parts = [self._quantized(part, assignment) for part in x.split(self._part)]
        return torch.cat(parts).argmax(1)

    def _verdict(self, right: Tensor) -> Verdict:
        count = len(right)
        accuracy = float(right.double().mean())
        lost = self._exact.double() - right.double()
        spread = float(lost.std()) if count > 1 else 0.0
        return Verdict(
            count,
            accuracy,
            half_width(accuracy, count),
            float(lost.mean()),
            _NORMAL * spread / math.sqrt(count),
        )
