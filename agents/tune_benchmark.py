"""How long the engineer's path takes and what it loses, beside the bars that it is to keep.

``python -m agents.tune_benchmark`` writes ``benchmarks/ENGINEER.md``: bits for a trained network in
seconds, without training and without labels; then a minute of training at these bits.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
import tyro

from agents.tune import SHORT, evaluations
from baselines.fast_search import FastSearch
from dqmq_env.costs import Size
from dqmq_env.data import load_fashion_mnist
from dqmq_env.evaluation.report import Evaluation
from dqmq_env.files import atomic_write_text
from dqmq_env.machine import processor_name
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.progress import progress
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.grid import MAX_BITS
from dqmq_env.task.budget import Budget
from dqmq_env.training.fine_tune import fine_tune
from dqmq_env.zoo.checkpoints import load_checkpoint

_IMAGES = 4_000


def main(
    checkpoint: tuple[str, ...] = ("resnet20-fashion-mnist",),
    weight_bits: tuple[float, ...] = (4, 3, 2.5),
    tuned_images: int = SHORT.images,
    seeds: int = 3,
    repeats: int = 3,
    calibration_images: int = 500,
    output: Path = Path("benchmarks/ENGINEER.md"),
) -> None:
    """Time the search, judge what it finds, train it, and write the tables.

    Args:
        checkpoint: names of shipped checkpoints.
        weight_bits: averages that are asked for; activations have 8 bits.
        tuned_images: that weights are trained on at these bits.
        seeds: of training.
        repeats: of what is timed; the median counts.
        calibration_images: that quantisers are fitted on.
        output: where the tables go.
    """
    times, rows = [], []
    with progress(len(checkpoint) * (repeats + len(weight_bits)), "benchmark", "part") as bar:
        for name in checkpoint:
            taken = []
            for _ in range(repeats):
                taken.append(_timed(name, weight_bits, calibration_images))
                bar.update()
            times.append(_time_row(name, taken))
            problem = _problem(name, calibration_images)
            search = FastSearch(problem)
            for bits in weight_bits:
                found = search.find(_budget(bits))
                rows.append(_row(name, problem, bits, found, tuned_images, seeds))
                bar.update()
    text = _TEXT.format(
        machine=f"{processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        calibration=calibration_images,
        further=len(weight_bits) - 1,
        images=_IMAGES,
        tuned=tuned_images,
        seeds=seeds,
        repeats=repeats,
        times="\n".join(times),
        rows="\n".join(rows),
    )
    atomic_write_text(output, text)
    print(text)


def _problem(name: str, calibration_images: int) -> NetworkProblem:
    network, _ = load_checkpoint(name)
    data = load_fashion_mnist()
    return NetworkProblem.over(
        network, data, activation_bits=MAX_BITS, calibration_images=calibration_images
    )


def _budget(bits: float) -> Budget:
    return Budget(Size(), bits / MAX_BITS)


def _timed(name: str, weight_bits: Sequence[float], calibration_images: int) -> list[float]:
    """Seconds to fit quantisers, to find the first assignment, and each further one."""

    def steps() -> Iterator[None]:
        problem = _problem(name, calibration_images)
        yield
        search = FastSearch(problem)
        search.find(_budget(weight_bits[0]))
        yield
        for bits in weight_bits[1:]:
            search.find(_budget(bits))
            yield

    taken, before = [], time.perf_counter()
    for _ in steps():
        taken.append(time.perf_counter() - before)
        before = time.perf_counter()
    return taken


def _time_row(name: str, taken: Sequence[Sequence[float]]) -> str:
    fit, first, *further = (median(column) for column in zip(*taken, strict=True))
    return f"| {name} | {fit:.1f} | {first:.1f} | {fit + first:.1f} | {max(further):.2f} |"


def _row(
    name: str,
    problem: NetworkProblem,
    bits: float,
    found: BitAssignment,
    images: int,
    seeds: int,
) -> str:
    """Accuracies in float, at the bits that were found, and after training."""
    before: list[Evaluation] = []
    after, seconds = [], []
    for seed in range(seeds):
        schedule = replace(SHORT, images=images, seed=seed)
        begun = time.perf_counter()
        tuned = fine_tune(problem, found, schedule)
        seconds.append(time.perf_counter() - begun)
        *before, own = evaluations(problem, tuned, _IMAGES)
        after.append(own)
    columns = [[evaluation] for evaluation in before] + [after]
    cells = [_accuracies(column) for column in columns]
    weights = problem.cost(found)["size"] * MAX_BITS
    return f"| {name} | {weights:.2f} | {' | '.join(cells)} | {median(seconds):.0f} |"


def _accuracies(evaluations: Sequence[Evaluation]) -> str:
    """Clean, and the mean over conditions; of several seeds, each as lowest to highest."""
    clean = [100 * own.rows[0].accuracy for own in evaluations]
    mean = [100 * own.accuracy for own in evaluations]
    return " / ".join(_spread(column) for column in (clean, mean))


def _spread(values: Sequence[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"


_TEXT = """# The engineer's path

Made by `python -m agents.tune_benchmark` on {machine}.

What `dqmq search` and `dqmq tune` do with shipped networks: {calibration} calibration images of
mixed quality, budgets on the size of the weights, activations at 8 bits, first and last layer at 8.
The bars were 10 seconds from scratch, 1 second for a further budget, at most 8 points lost at 3
bits and half a point at 4 without training, and 1.5 points at 3 bits after a minute of it.

Seconds, the median of {repeats} runs. *Fit*: quantisers at all widths, once for a network.
*Search*: sensitivities and the first budget. *Further*: the slowest of {further} more budgets.

| network | fit | search | from scratch | further |
|---|---:|---:|---:|---:|
{times}

Top-1 in percent on the first {images:,} `test` images, clean / mean over the default conditions. At
93% the 95% interval over the choice of images is 0.8 points to either side; columns share their
images, so that differences are surer than that. *Found* is without training and without labels;
*tuned* after training on {tuned:,} images (lowest to highest of {seeds} seeds), in so many seconds.

| network | weight bits | float | found | tuned | seconds |
|---|---:|---:|---:|---:|---:|
{rows}
"""


if __name__ == "__main__":
    tyro.cli(main)
