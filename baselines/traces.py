"""Traces of the Hessian, layer by layer, from products with random vectors (Hutchinson)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from dqmq_env.errors import SettingError
from dqmq_env.quantization.surgery import eval_mode
from dqmq_env.randomness import torch_generator

Forms = Callable[[Mapping[int, Sequence[Tensor]]], Mapping[int, Sequence[float]]]
"""``v . H v`` for vectors ``v`` of some layers, ``H`` being a layer's own block of a Hessian."""

_BLOCK = 8


@dataclass(frozen=True)
class Precision:
    """When to stop drawing vectors.

    An absolute tolerance would stop at once where traces are small and never where they are large;
    this one is relative.

    Attributes:
        tolerance: a layer is done when its standard error falls below this share of its trace,
        probes: or when so many vectors were drawn for it.

    Raises:
        SettingError: a number is out of range.
    """

    tolerance: float = 0.05
    probes: int = 100

    def __post_init__(self) -> None:
        if not self.tolerance > 0:
            raise SettingError(f"tolerance: got {self.tolerance}, allowed is more than 0")
        if self.probes < 2:
            raise SettingError(f"probes: got {self.probes}, allowed are 2 and more")


@dataclass(frozen=True)
class Traces:
    """Estimates of the traces of the diagonal blocks of a Hessian.

    Attributes:
        mean: the estimate for each layer, shape (layers,).
        standard_error: of each, from the spread over vectors, shape (layers,).
        probes: number of vectors that were drawn for each layer, shape (layers,).
        gradients: number of gradients that this took on each image.
    """

    mean: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    probes: NDArray[np.int64]
    gradients: int

    @property
    def relative_error(self) -> NDArray[np.float64]:
        """The standard error as a share of the trace, shape (layers,); infinite at a trace of 0."""
        none = np.full_like(self.mean, np.inf)
        return np.divide(self.standard_error, np.abs(self.mean), out=none, where=self.mean != 0)


def hutchinson(
    forms: Forms, shapes: Sequence[Sequence[int]], precision: Precision, seed: int
) -> Traces:
    """Estimate the trace of each diagonal block of a symmetric matrix.

    With ``v`` of independent signs, ``v . H v`` has the trace of ``H`` as its mean (Hutchinson
    1990). Each layer has vectors of its own: one over all layers would take fewer products, but
    what the other blocks add to it is far more than a block with a small trace.

    Args:
        forms: called with the next vectors of each layer that is not done.
        shapes: of the vectors of each layer.
        precision: when a layer is done; looked at after every eighth vector.
        seed: of the signs.
    """
    samples: list[list[float]] = [[] for _ in shapes]
    pending = list(range(len(shapes)))
    gradients = 0
    while pending:
        drawn = len(samples[pending[0]])
        numbers = range(drawn, min(drawn + _BLOCK, precision.probes))
        vectors = {
            layer: [_signs(shapes[layer], seed, layer, number) for number in numbers]
            for layer in pending
        }
        for layer, values in forms(vectors).items():
            samples[layer] += values
        gradients += 1 + len(pending) * len(numbers)
        traces = _summed_up(samples, gradients)
        done = traces.relative_error < precision.tolerance
        done |= traces.probes == precision.probes
        pending = np.flatnonzero(~done).tolist()
    return traces


def hessian_traces(
    network: nn.Module,
    names: Sequence[str],
    x: Tensor,
    labels: Tensor,
    precision: Precision,
    seed: int = 0,
    part: int = 32,
) -> Traces:
    """The traces of the Hessian of the mean cross-entropy by the weights of each layer.

    Args:
        network: maps ``x`` to logits; taken in eval mode, left as it was.
        names: of the layers, one or more, whose ``weight`` is meant.
        x: normalised images, shape (N, C, H, W).
        labels: int64, shape (N,).
        precision: when to stop.
        seed: of the random vectors.
        part: images that are gone through at once, which bounds memory.
    """
    weights = [network.get_submodule(name).get_parameter("weight").detach() for name in names]
    keys = [f"{name}.weight" for name in names]

    def forms(vectors: Mapping[int, Sequence[Tensor]]) -> Mapping[int, Sequence[float]]:
        total = {layer: [0.0] * len(own) for layer, own in vectors.items()}
        for images, targets in zip(x.split(part), labels.split(part), strict=True):
            leaves = [weight.clone().requires_grad_() for weight in weights]
            logits = functional_call(network, dict(zip(keys, leaves, strict=True)), (images,))
            loss = F.cross_entropy(logits, targets, reduction="sum") / len(x)
            wanted = [leaves[layer] for layer in vectors]
            slopes = torch.autograd.grad(loss, wanted, create_graph=True)
            for (layer, own), slope in zip(vectors.items(), slopes, strict=True):
                for number, vector in enumerate(own):
                    signs = vector.to(slope)
                    (product,) = torch.autograd.grad(slope, leaves[layer], signs, retain_graph=True)
                    total[layer][number] += float((signs.double() * product.double()).sum())
        return total

    # other kernels for attention have no second derivative
    with eval_mode(network), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        return hutchinson(forms, [weight.shape for weight in weights], precision, seed)


def _summed_up(samples: Sequence[Sequence[float]], gradients: int) -> Traces:
    counts = np.array([len(own) for own in samples])
    spread = np.array([np.std(own, ddof=1) for own in samples])
    mean = np.array([np.mean(own) for own in samples])
    return Traces(mean, spread / np.sqrt(counts), counts, gradients)


def _signs(shape: Sequence[int], seed: int, layer: int, number: int) -> Tensor:
    generator = torch_generator(seed, "signs", layer, number)
    return torch.randint(2, tuple(shape), generator=generator, dtype=torch.float32) * 2 - 1
