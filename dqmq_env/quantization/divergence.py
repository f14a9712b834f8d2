"""Step sizes by the least information lost, as HAQ and TensorRT set them."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dqmq_env.quantization.grid import Grid
from dqmq_env.quantization.step_size import MinMax

_SMALLEST = 1e-8


@dataclass(frozen=True)
class KullbackLeibler:
    """The step whose clipping range has the least divergence between values and rounded values.

    Migacz 2017 (8-bit inference with TensorRT): for each range, the histogram of magnitudes, what
    lies outside added to its last bin, is compared with itself merged into as many bins as the grid
    has levels on one side.

    Attributes:
        bins: of the histogram of magnitudes.
        stride: bins between two ranges that are tried.
    """

    bins: int = 2048
    stride: int = 16

    def __call__(self, values: Tensor, grid: Grid) -> Tensor:
        """See :class:`~dqmq_env.quantization.step_size.StepSizeRule`."""
        steps = [self._threshold(row.numpy(), grid) / max(grid.reach, 0.5) for row in values.cpu()]
        return torch.tensor(steps, dtype=values.dtype, device=values.device)

    def _threshold(self, values: NDArray[np.float32], grid: Grid) -> float:
        magnitudes = np.abs(values)
        highest = max(float(magnitudes.max()), _SMALLEST)
        counts, edges = np.histogram(magnitudes, self.bins, (0.0, highest))
        levels = int(max(grid.high, 1))
        ends = range(max(levels, self.stride), self.bins + 1, self.stride)
        return float(edges[min(ends, key=lambda end: _divergence(counts, end, levels))])


@dataclass(frozen=True)
class HaqThreshold:
    """HAQ's rule: clips nothing at 5 bits and more, and goes by divergence below.

    Wang et al. 2019; lib/utils/quantize_utils.py of mit-han-lab/haq.
    """

    def __call__(self, values: Tensor, grid: Grid) -> Tensor:
        """See :class:`~dqmq_env.quantization.step_size.StepSizeRule`."""
        many = grid.high - grid.low + 1 >= 2**5
        return MinMax()(values, grid) if many else KullbackLeibler()(values, grid)


def _divergence(counts: NDArray[np.int64], end: int, levels: int) -> float:
    """Of the first ``end`` bins, clipped, from themselves merged into ``levels``, in nats."""
    inside = counts[:end].astype(np.float64)
    clipped = inside.copy()
    clipped[-1] += counts[end:].sum()
    starts = np.arange(levels) * end // levels
    occupied = inside > 0
    sums, filled = np.add.reduceat(inside, starts), np.add.reduceat(occupied, starts, dtype=float)
    means = sums / np.maximum(filled, 1)
    merged = np.repeat(means, np.diff(np.append(starts, end))) * occupied
    p, q = clipped / clipped.sum(), merged / max(merged.sum(), 1)
    both = (p > 0) & (q > 0)
    lost = p[(p > 0) & (q == 0)].sum()  # what is clipped into an empty bin
    return float((p[both] * np.log(p[both] / q[both])).sum() + lost * 1e3)
