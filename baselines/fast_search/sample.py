"""A few images of mixed quality, and how far a network's answers for them move at some bits."""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dqmq_env.evaluation.batch_pass import BatchPass
from dqmq_env.evaluation.cache import PauseCache
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment, LayerBits

Bits = tuple[LayerBits, ...]
"""Of consecutive layers, in forward order."""

_CACHE_BYTES = 2**28


class Sample:
    """The first calibration images of a problem, of mixed quality, and float's answers for them.

    The divergence of an assignment is that of Kullback and Leibler between the probabilities of
    classes in float and at its bits, in nats. It needs no labels, and a hundred images tell more by
    it than by how many of them are classified rightly.

    Args:
        problem: gives network and images.
        images: how many; all where there are fewer.

    Attributes:
        parts: normalised images, in the portions in which they go through the network.
        walker: goes through the quantised network.
    """

    def __init__(self, problem: NetworkProblem, images: int) -> None:
        self._quantized = problem.quantized
        self.walker = problem.walker
        x = problem.normalize(problem.calibration[:images])
        self.parts = x.tensor_split(-(-len(x) // self.walker.part))
        self._exact = [self._in_float(problem, part) for part in self.parts]
        self._known: dict[Bits, float] = {}
        self._cache: PauseCache[tuple[int, Bits], BatchPass] = PauseCache(_CACHE_BYTES)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def divergence(self, assignment: BitAssignment) -> float:
        """Mean over the images of the divergence from float, in nats.

        Raises:
            AssignmentError: the bits do not fit the layers.
        """
        bits = self._quantized.in_order(assignment)
        if bits not in self._known:
            total = sum(self.of_part(number, assignment) for number in range(len(self.parts)))
            self._known[bits] = total / len(self)
        return self._known[bits]

    def of_part(self, number: int, assignment: BitAssignment) -> float:
        """Sum over the images of a part of the divergence from float, in nats."""
        return self._apart(number, self._reach(number, self._quantized.in_order(assignment)))

    @torch.no_grad()
    def changes(
        self, number: int, assignment: BitAssignment, options: Mapping[int, Sequence[LayerBits]]
    ) -> Iterator[list[float]]:
        """What changes of a single layer do to a part; the layers are walked once for all of them.

        Args:
            number: of the part.
            assignment: that is changed.
            options: index of a layer to bits that it gets in turn.

        Yields:
            For each of these layers, in forward order, the summed divergence at its options.
        """
        bits = self._quantized.in_order(assignment)
        reached = self.walker.start(self.parts[number])
        for index, own in enumerate(bits):
            if index in options:
                paths = [(option, *bits[index + 1 :]) for option in options[index]]
                ends = self.walker.descend(reached, paths)
                yield [self._apart(number, ends[path]) for path in paths]
            reached = self.walker.advance(reached, own)

    def _apart(self, number: int, end: BatchPass) -> float:
        found = end.logits.double().log_softmax(1)
        return float(F.kl_div(found, self._exact[number], reduction="sum", log_target=True))

    @torch.no_grad()
    def _reach(self, number: int, bits: Bits) -> BatchPass:
        """The pass of a part, by way of the longest beginning that is at hand."""
        depth = len(bits)
        while (reached := self._cache.get((number, bits[:depth]))) is None:
            if depth == 0:
                reached = self.walker.start(self.parts[number])
                break
            depth -= 1
        for place in range(depth, len(bits)):
            reached = self.walker.advance(reached, bits[place])
            self._cache.put((number, bits[: place + 1]), reached)
        return reached

    @staticmethod
    @torch.no_grad()
    def _in_float(problem: NetworkProblem, part: Tensor) -> Tensor:
        # a clone, because the network's code may write into its input
        logits: Tensor = problem.network(part.clone())
        return logits.double().log_softmax(1)
