"""The demonstration: bits and grids that follow each image, beside bits that do not.

Trains a small ResNet-8 at a budget where bits hurt: with one decision for each image, with one
before each layer, with static bits (the same agent, which then sees nothing), and at uniform 2 and
1 bits; weights have 2 bits in all of them. All begin with the shipped float checkpoint, by the same
recipe and over the same number of embedded images; they are judged on the ``test`` split under each
condition, in a table, heat maps of bits and a plot of accuracy against cost. An interrupted
demonstration goes on when it is started again.
"""

import multiprocessing
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Final

import tyro

from agents.hybrid.settings import preset
from agents.hybrid.table import print_table
from dqmq_env.evaluation.report import Evaluation
from dqmq_env.program import one_line_errors
from dqmq_env.progress import progress
from dqmq_env.training.loop import Schedule
from dqmq_env.training.run_folder import working_in

UNIFORM = (2, 1)
_SETTING: Final[Mapping[str, Any]] = {
    "id": "DQMQ-ResNet8-v0",
    "checkpoint": "resnet8-width8-fashion-mnist",
    "bits": (1, 2, 3, 4),
    "weight_bits": 2,
}
_LEARNING_RATE = 8e-3
_EVALUATION_STEPS = 9


@dataclass(frozen=True)
class DemoArguments:
    """What the demonstration trains.

    Attributes:
        run: folder of everything that it writes.
        images: training images of each network.
        budget: average BOPs of the hybrid agent's networks, as a fraction of those at 8 bits.
        seed: of order, noise and sampling.
        test_images: images of the test split that each condition is judged on.
        processes: networks trained side by side, each on one thread.
    """

    run: Path = Path("runs/demo")
    images: int = 72_000
    budget: float = 0.0704
    seed: int = 0
    test_images: int = 4_000
    processes: int = min(2, os.cpu_count() or 1)


@dataclass(frozen=True)
class Job:
    """One network of the demonstration.

    Attributes:
        arguments: of the demonstration.
        name: what tables and folders call it.
        weight: share of the progress bar that one of its steps takes.
        bits: of a uniform network; ``None`` for one of the hybrid agent.
        preset: of the agent's settings.
        granularity: what its bits follow.
    """

    arguments: DemoArguments
    name: str
    weight: int = 3
    bits: int | None = None
    preset: str = "by-value"
    granularity: str = "image"

    @property
    def folder(self) -> Path:
        """Where it keeps state, curves and results."""
        return self.arguments.run / self.name

    @property
    def schedule(self) -> Schedule:
        """The recipe, the same for all."""
        own = self.arguments
        return Schedule(images=own.images, learning_rate=_LEARNING_RATE, seed=own.seed)

    @property
    def units(self) -> int:
        """Its share of the progress bar."""
        return self.weight * (self.schedule.steps + _EVALUATION_STEPS)


def jobs_of(arguments: DemoArguments) -> list[Job]:
    """All networks; those that follow the image come first."""
    return [
        Job(arguments, "by-image", weight=4),
        Job(arguments, "by-layer", weight=6, preset="by-layer"),
        Job(arguments, "static", granularity="static"),
        *(Job(arguments, f"uniform-{bits}", bits=bits) for bits in UNIFORM),
    ]


def run_job(job: Job, ticks: "Queue[int]") -> Path:
    """Train and evaluate one network; return the path of its evaluation.

    Args:
        job: the network.
        ticks: gets the units of progress done.
    """
    path = job.folder / "evaluation.json"
    if path.is_file():
        ticks.put(job.units)
        return path

    import gymnasium as gym
    import torch

    import dqmq_env  # noqa: F401 - registers the environments
    from agents.hybrid.agent import HybridAgent
    from baselines.fixed import train_uniform
    from dqmq_env.evaluation.deployed import Deployed
    from dqmq_env.evaluation.report import evaluate
    from dqmq_env.quality import DEFAULT_CONDITIONS
    from dqmq_env.quality.conditioned import ConditionedImages

    torch.set_num_threads(1)
    env: Any = gym.make(granularity=job.granularity, **_SETTING)
    problem = env.unwrapped.problem
    seen = 0

    def count(step: int) -> bool:
        nonlocal seen
        ticks.put(job.weight * (step - seen))
        seen = step
        return True

    network: Deployed
    if job.bits is None:
        settings = preset(job.preset, budget=job.arguments.budget)
        agent = HybridAgent(env, settings, job.schedule, job.folder, device="cpu")
        network = agent.learn(count).deployed()
        agent.save(job.folder / "agent.dqmq")
    else:
        network = train_uniform(problem, job.bits, job.schedule, job.folder, count)
    layers = [spec.name for spec in problem.layers]
    images = ConditionedImages(problem.data.test.take(job.arguments.test_images), problem.seed)
    tick: Callable[[], None] = lambda: ticks.put(job.weight)  # noqa: E731
    evaluate(job.name, layers, network, images, DEFAULT_CONDITIONS, done=tick).save(path)
    return path


def train_all(arguments: DemoArguments) -> list[Evaluation]:
    """Train and evaluate every network, side by side, with one progress bar."""
    jobs = jobs_of(arguments)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        ticks: Queue[int] = manager.Queue()
        with ProcessPoolExecutor(arguments.processes, context) as pool:
            running: list[Future[Path]] = [pool.submit(run_job, job, ticks) for job in jobs]
            with progress(sum(job.units for job in jobs), "demo", "unit") as bar:
                while not all(future.done() for future in running):
                    try:
                        bar.update(ticks.get(timeout=0.5))
                    except Empty:
                        _raise_first_failure(running)
                while not ticks.empty():
                    bar.update(ticks.get())
            paths = [future.result() for future in running]
    return [Evaluation.load(path) for path in paths]


def _raise_first_failure(running: list[Future[Path]]) -> None:
    """Stop waiting for the others where one process has failed."""
    for future in as_completed([future for future in running if future.done()]):
        future.result()


def report(arguments: DemoArguments, evaluations: list[Evaluation]) -> None:
    """Print the table and say what it can and cannot show; draw the pictures."""
    import numpy as np

    from dqmq_env.benchmark.plots import (
        BASELINE_GROUP,
        CostPoint,
        plot_accuracy_against_cost,
        plot_bits_heat_map,
    )

    print_table(evaluations)
    points, bits = [], []
    for job, evaluation in zip(jobs_of(arguments), evaluations, strict=True):
        low, high = evaluation.interval
        group = job.name if job.bits is None else BASELINE_GROUP
        points.append(
            CostPoint(evaluation.name, evaluation.cost, evaluation.accuracy, low, high, group)
        )
        if job.bits is None and job.granularity == "image":
            bits.append(arguments.run / f"bits-{job.name}.png")
            plot_bits_heat_map(
                np.array([row.bits for row in evaluation.rows]).T,
                evaluation.layers,
                [row.condition for row in evaluation.rows],
                bits[-1],
                title=f"Mean bits per layer and condition, {job.name}",
            )
    curve = arguments.run / "accuracy-against-cost.png"
    plot_accuracy_against_cost(
        points, curve, title="Mean accuracy over nine conditions, small ResNet-8 on Fashion-MNIST"
    )
    following, static = evaluations[0], evaluations[2]
    images = following.rows[0].images
    print(
        f"""
Costs count the controller. Accuracies are over {images} test images per condition; the intervals
speak of the choice of these images, which are the same for all networks. This is one seed: what
holds over seeds, on other networks and beside other opponents stands in docs/experiments.md.

at a budget of {100 * arguments.budget:.2f}% of the BOPs at 8 bits:
bits and grids that follow the image   {_said(following)}
static bits of the same agent          {_said(static)}

bits per layer and condition   {bits[0]}, {bits[1]}
accuracy against cost          {curve}
hybrid agents                  {arguments.run}/*/agent.dqmq
figures                        {arguments.run}/*/evaluation.json
training curves                .venv/bin/tensorboard --logdir {arguments.run}"""
    )


def _said(evaluation: Evaluation) -> str:
    return f"{100 * evaluation.accuracy:.1f}% right at {100 * evaluation.cost:.2f}% of the BOPs"


def main(words: list[str] | None = None) -> None:
    """Entry point of ``python -m agents.hybrid.demo`` and of ``dqmq demo``."""
    arguments = tyro.cli(DemoArguments, description=__doc__, args=words, prog="dqmq demo")
    with one_line_errors("dqmq demo"):
        settings = asdict(arguments)
        for name in ("run", "processes"):
            del settings[name]
        with working_in(arguments.run, settings):
            names = ", ".join(job.name for job in jobs_of(arguments))
            print(f"training {names}: {arguments.images:,} images each")
            report(arguments, train_all(arguments))


if __name__ == "__main__":
    main()
