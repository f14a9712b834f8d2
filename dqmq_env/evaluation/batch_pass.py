"""Forward passes of a batch, part by part, so that a part fits into the processor's cache."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dqmq_env.evaluation.walk import Pause, Walker
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.choice import ImageBits
from dqmq_env.quantization.spec import LayerSpec

_PART_BYTES = 2**22
_FEWEST = 8


@dataclass(frozen=True)
class BatchPass:
    """A pass of a batch that waits for the bits of its next layer, or has ended.

    Attributes:
        parts: a pause for each part of the batch, consecutive images.
        sizes: number of images of each part.
    """

    parts: tuple[Pause, ...]
    sizes: tuple[int, ...]

    @property
    def activations(self) -> tuple[Tensor, ...]:
        """What the next layer is about to receive, part by part; none once the pass has ended."""
        found = (part.activation for part in self.parts)
        return tuple(activation for activation in found if activation is not None)

    @property
    def logits(self) -> Tensor:
        """The network's output (N, classes), once the pass has ended."""
        return torch.cat([part.logits for part in self.parts if part.logits is not None])

    def held(self) -> Iterable[Any] | None:
        """What it keeps in memory; ``None`` where nothing is gained by keeping it."""
        values: list[Any] = []
        for part in self.parts:
            held = part.held()
            if held is None:
                return None
            values += held
        return values


class BatchWalker:
    """Walks a network layer by layer with a batch.

    The parts of a batch differ in size by one image at most.

    Args:
        walker: walks with one part.
        part: most images in a part.
    """

    def __init__(self, walker: Walker, part: int) -> None:
        self.walker, self.part = walker, part

    def start(self, x: Tensor) -> BatchPass:
        """Go from normalised images (N, C, H, W) up to the first layer."""
        parts = x.tensor_split(-(-len(x) // self.part))
        sizes = tuple(len(part) for part in parts)
        return BatchPass(tuple(self.walker.start(part) for part in parts), sizes)

    def advance(self, batch: BatchPass, bits: LayerBits) -> BatchPass:
        """Compute the layer at ``bits`` and go on up to the next one."""
        parts = tuple(self.walker.advance(part, bits) for part in batch.parts)
        return BatchPass(parts, batch.sizes)

    def advance_each(self, batch: BatchPass, bits: ImageBits) -> BatchPass:
        """The same at bits of each image's own."""
        parts, done = [], 0
        for part, size in zip(batch.parts, batch.sizes, strict=True):
            own = ImageBits(bits.bits[done : done + size])
            parts.append(self.walker.advance(part, own))
            done += size
        return BatchPass(tuple(parts), batch.sizes)

    def descend(
        self, batch: BatchPass, continuations: Collection[tuple[LayerBits, ...]]
    ) -> dict[tuple[LayerBits, ...], BatchPass]:
        """Go on in several ways at once, computing each common beginning once.

        Each part of the batch walks the tree of continuations depth first, so that no more passes
        are alive at a time than a continuation is long.

        Args:
            batch: where all of them start.
            continuations: bits of the layers that follow.
        """
        ordered = sorted(set(continuations))
        ends: dict[tuple[LayerBits, ...], list[Pause]] = {bits: [] for bits in ordered}
        for part in batch.parts:
            path, before = [part], ordered[0][:0]
            for bits in ordered:
                shared = _common(before, bits)
                del path[shared + 1 :]
                for width in bits[shared:]:
                    path.append(self.walker.advance(path[-1], width))
                ends[bits].append(path[-1])
                before = bits
        return {bits: BatchPass(tuple(parts), batch.sizes) for bits, parts in ends.items()}


def images_in_a_part(specs: Sequence[LayerSpec]) -> int:
    """As many images as have activations of 4 MiB where the network is widest, but 8 at least."""
    widest = max(max(_values(spec.input_shape), _values(spec.output_shape)) for spec in specs)
    return max(_FEWEST, _PART_BYTES // (4 * widest))


def _values(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _common(one: Sequence[LayerBits], other: Sequence[LayerBits]) -> int:
    """Length of the common beginning."""
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length
