"""Accuracy of the shipped networks at uniform bits, quantised after training.

``python -m dqmq_env.benchmark.post_training`` writes ``benchmarks/POST_TRAINING.md``: top-1 on the
``test`` split, clean and in the mean over the default conditions, with nearest rounding after a
search for the steps, and with reconstruction, which is the default of environments.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import tyro

from dqmq_env.data import load_fashion_mnist
from dqmq_env.files import atomic_write_text
from dqmq_env.problem.estimates import half_width
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.progress import progress
from dqmq_env.quality import DEFAULT_CONDITIONS
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.post_training import DEFAULT_POST_TRAINING, PostTraining, StepSearch
from dqmq_env.zoo.checkpoints import checkpoint_names, load_checkpoint

BITS = (8, 6, 5, 4, 3, 2)
_WAYS: Mapping[str, PostTraining] = {
    "steps": StepSearch(),
    "reconstruction": DEFAULT_POST_TRAINING,
}


def row(checkpoint: str, way: str, bits: Sequence[int]) -> str:
    """One row of the table: ``clean / mean over conditions`` at each width, in percent."""
    network, _ = load_checkpoint(checkpoint)
    problem = NetworkProblem.over(network, load_fashion_mnist(), post_training=_WAYS[way])
    names = [spec.name for spec in problem.layers]
    cells = []
    for width in bits:
        floats = BitAssignment.uniform(names, FLOAT_BITS)
        assignment = floats if width == FLOAT_BITS else problem.uniform(width)
        found = [
            float(problem.evaluate(assignment, condition, "test").accuracy[0])
            for condition in DEFAULT_CONDITIONS
        ]
        cells.append(f"{100 * found[0]:.1f} / {100 * float(np.mean(found)):.1f}")
    return f"| {checkpoint} | {way} | {' | '.join(cells)} |"


def main(output: Path = Path("benchmarks/POST_TRAINING.md")) -> None:
    """Measure and write the table.

    Args:
        output: the Markdown file.
    """
    widths = (FLOAT_BITS, *BITS)
    jobs = [(name, way) for name in checkpoint_names() for way in _WAYS]
    rows = []
    with progress(len(jobs), "post-training", "row") as bar:
        for name, way in jobs:
            rows.append(row(name, way, widths))
            bar.update()
    images = len(load_fashion_mnist().test)
    half = 100 * half_width(0.9, images)
    heads = ["network", "way", "float", *(f"{width} bits" for width in BITS)]
    lines = [
        "# Accuracy after post-training quantisation",
        "",
        "Made by `python -m dqmq_env.benchmark.post_training`. Top-1 in percent on the embedded "
        f"`test` split ({images} images): clean / mean over the {len(DEFAULT_CONDITIONS)} default "
        f"conditions. At 90% the 95% interval over the choice of images is ±{half:.1f}. Weights "
        "and activations at the same bits, first and last layer at 8; 250 calibration images, "
        f"seed 0; torch {version('torch')}.",
        "",
        f"| {' | '.join(heads)} |",
        "|" + "---|" * len(heads),
        *rows,
        "",
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(output, "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    tyro.cli(main)
