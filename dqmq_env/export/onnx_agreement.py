"""Measures how nearly ONNX Runtime gives the logits of the network that was exported.

Run ``python -m dqmq_env.export.onnx_agreement`` for the table of docs/onnx.md: ONNX Runtime against
fake quantisation in float, and beside it PyTorch's own convolutions on integers against the same.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor

from dqmq_env.costs import Size, total
from dqmq_env.data import load_fashion_mnist
from dqmq_env.evaluation.deployed import Deployed, StaticNetwork
from dqmq_env.export.onnx_exporter import OPSET, OnnxExporter
from dqmq_env.export.onnx_runner import OnnxNetwork
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.grid import FLOAT_BITS, MAX_BITS
from dqmq_env.quantization.integer_kernel import integers_are_fast, use_integer_kernels
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.scheme_names import scheme_by_name
from dqmq_env.randomness import numpy_generator
from dqmq_env.zoo.checkpoints import checkpoint_names, load_checkpoint

NEAR = 1e-5
_BATCH = 250


@dataclass(frozen=True)
class Agreement:
    """Of two networks, about N images.

    Attributes:
        images: N.
        other: images that get another class.
        near: share of images all of whose logits differ by less than 1e-5 of the spread.
        largest: difference of two logits, as a fraction of the spread.
        spread: standard deviation of the logits.
    """

    images: int
    other: int
    near: float
    largest: float
    spread: float


def compare(expected: Deployed, found: Deployed, images: Tensor) -> Agreement:
    """Classify uint8 images (N, C, H, W) by both."""
    ours, theirs = (
        torch.cat([network(part).logits for part in images.split(_BATCH)])
        for network in (expected, found)
    )
    spread = ours.std()
    apart = (ours - theirs).abs().amax(1) / spread
    return Agreement(
        len(images),
        int((ours.argmax(1) != theirs.argmax(1)).sum()),
        float((apart < NEAR).float().mean()),
        float(apart.max()),
        float(spread),
    )


def main(
    checkpoint: tuple[str, ...] = tuple(checkpoint_names()),
    images: int = 1000,
    opset: int = OPSET,
) -> None:
    """Print a table of agreement and file sizes.

    Args:
        checkpoint: names of shipped checkpoints.
        images: of the test split.
        opset: 21 or 25.
    """
    data = load_fashion_mnist()
    print(_HEAD)
    for name in checkpoint:
        network, _ = load_checkpoint(name)
        problem = NetworkProblem.over(network, data, bits=range(1, MAX_BITS + 1))
        for kind, quantized in _networks(problem):
            exporter = OnnxExporter.over(problem, quantized, opset)
            by_floats, by_integers = copy.deepcopy(quantized), copy.deepcopy(quantized)
            for layer in by_floats.layers:
                layer.kernel = None
            if integers_are_fast():
                use_integer_kernels(by_integers)
            for bits, assignment in _assignments(problem, kind):
                content = exporter.serialized(assignment)
                expected, other = (
                    StaticNetwork(own, assignment, problem.normalize)
                    for own in (by_floats, by_integers)
                )
                seen = data.test.images[:images]
                cells = [
                    f"{found.other} | {found.near:.1%} | {found.largest:.0e}"
                    for found in (
                        compare(expected, OnnxNetwork(content), seen),
                        compare(expected, other, seen),
                    )
                ]
                weights = total(Size(), problem.layers, assignment) / 8
                shown = name.removesuffix(f"-{data.name}")
                print(
                    f"| {shown} | {kind} | {bits} | {' | '.join(cells)} | "
                    f"{len(content):,} | {weights:,.0f} |",
                    flush=True,
                )


_HEAD = """\
| network | weights | bits | other class | near | largest | other class, integers | near | largest \
| bytes | of weights |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"""


def _networks(problem: NetworkProblem) -> Iterator[tuple[str, QuantizedNetwork]]:
    yield "post-training", problem.quantized
    for name in ("lsq", "dorefa"):
        yield name, problem.trainable(scheme_by_name(name))


def _assignments(problem: NetworkProblem, kind: str) -> Iterator[tuple[str, BitAssignment]]:
    """Uniform bits, and all widths mixed, those of activations unlike those of weights."""
    if kind == "post-training":
        names = list(problem.candidates)
        yield "float", BitAssignment.uniform(names, FLOAT_BITS)
        for bits in (8, 4, 3, 2):
            yield str(bits), problem.uniform(bits)
    generator = numpy_generator(0, "mixed bits")
    for number in range(2):
        drawn = {
            name: [int(generator.choice(widths)) for widths in (weights, activations)]
            for (name, weights), activations in zip(
                problem.candidates.items(),
                problem.quantized.activation_candidates.values(),
                strict=True,
            )
        }
        yield f"mixed {number + 1}", BitAssignment(drawn)


if __name__ == "__main__":
    tyro.cli(main)
