"""The demonstration: bits and grids that follow the quality of the images, beside uniform bits.

Trains a data-quality-aware mixed-precision ResNet-20 and the same network at uniform 8, 4, 3 and 2
bits, all from the shipped float checkpoint, by the same recipe and over the same number of embedded
images; evaluates them on the ``test`` split under each condition; writes a table, a heat map and a
plot of accuracy against cost. An interrupted demonstration goes on when it is started again.
"""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import tyro

from agents.hybrid.settings import preset
from agents.hybrid.table import print_table
from dqmq_env.evaluation.report import Evaluation
from dqmq_env.program import one_line_errors
from dqmq_env.progress import progress
from dqmq_env.training.loop import Schedule
from dqmq_env.training.run_folder import claim_run_folder

UNIFORM = (8, 4, 3, 2)
_EVALUATION_STEPS = 9
_HYBRID_WEIGHT = 3


@dataclass(frozen=True)
class DemoArguments:
    """What the demonstration trains.

    Attributes:
        run: folder of everything that it writes.
        images: training images of each network.
        budget: average BOPs of the hybrid network, as a fraction of those at 8 bits.
        seed: of order, noise and sampling.
        test_images: images of the test split that each condition is judged on.
        processes: networks trained side by side, each on one thread.
    """

    run: Path = Path("runs/demo")
    images: int = 24_000
    budget: float = 0.1
    seed: int = 0
    test_images: int = 4_000
    processes: int = min(2, os.cpu_count() or 1)


@dataclass(frozen=True)
class Job:
    """One network of the demonstration.

    Attributes:
        bits: of a uniform network; ``None`` for the hybrid one.
        arguments: of the demonstration.
    """

    bits: int | None
    arguments: DemoArguments

    @property
    def name(self) -> str:
        """What tables and folders call it."""
        return "hybrid" if self.bits is None else f"uniform-{self.bits}"

    @property
    def folder(self) -> Path:
        """Where it keeps state, curves and results."""
        return self.arguments.run / self.name

    @property
    def weight(self) -> int:
        """Share of the progress bar that one of its steps takes."""
        return _HYBRID_WEIGHT if self.bits is None else 1

    @property
    def schedule(self) -> Schedule:
        """The recipe, the same for all."""
        return Schedule(images=self.arguments.images, seed=self.arguments.seed)

    @property
    def units(self) -> int:
        """Its share of the progress bar."""
        return self.weight * (self.schedule.steps + _EVALUATION_STEPS)


def run_job(job: Job, ticks: "Queue[int]") -> Path:
    """Train and evaluate one network; return the path of its evaluation.

    Args:
        job: the network.
        ticks: gets the units of progress done.
    """
    import gymnasium as gym
    import torch

    import dqmq_env  # noqa: F401 - registers the environments
    from agents.hybrid.agent import HybridAgent
    from baselines.fixed import train_uniform
    from dqmq_env.evaluation.deployed import Deployed
    from dqmq_env.evaluation.report import evaluate
    from dqmq_env.quality import DEFAULT_CONDITIONS
    from dqmq_env.quality.conditioned import ConditionedImages

    path = job.folder / "evaluation.json"
    if path.is_file():
        ticks.put(job.units)
        return path
    torch.set_num_threads(1)
    env: Any = gym.make("DQMQ-ResNet-v0", granularity="image")
    problem = env.unwrapped.problem
    seen = 0

    def count(step: int) -> bool:
        nonlocal seen
        ticks.put(job.weight * (step - seen))
        seen = step
        return True

    network: Deployed
    if job.bits is None:
        settings = preset("by-layer", budget=job.arguments.budget)
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
    jobs = [Job(bits, arguments) for bits in (None, *UNIFORM)]
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
        CostPoint,
        plot_accuracy_against_cost,
        plot_bits_heat_map,
    )

    hybrid = evaluations[0]
    print_table(evaluations)
    bits = np.array([row.bits for row in hybrid.rows]).T
    conditions = [row.condition for row in hybrid.rows]
    heat_map = arguments.run / "bits.png"
    plot_bits_heat_map(
        bits, hybrid.layers, conditions, heat_map, title="Mean bits per layer and condition"
    )
    points = []
    for evaluation in evaluations:
        low, high = evaluation.interval
        group = "hybrid" if evaluation is hybrid else "uniform"
        points.append(
            CostPoint(evaluation.name, evaluation.cost, evaluation.accuracy, low, high, group)
        )
    curve = arguments.run / "accuracy-against-cost.png"
    plot_accuracy_against_cost(
        points, curve, title="Mean accuracy over nine conditions, ResNet-20 on Fashion-MNIST"
    )
    images = hybrid.rows[0].images
    print(
        f"""
Costs count the controller. Accuracies are over {images} test images per condition; the intervals
speak of the choice of these images. This is one seed: a difference of less than about a point
between two networks can turn round with another seed, and nothing here says which method is better.
What one seed does show: the budget ({100 * arguments.budget:.1f}% of the BOPs at 8 bits) is kept to
about {100 * hybrid.cost:.1f}%, and how the bits move with the condition.

bits per layer and condition   {heat_map}
accuracy against cost          {curve}
hybrid agent                   {arguments.run / "hybrid" / "agent.dqmq"}
figures                        {arguments.run}/*/evaluation.json
training curves                .venv/bin/tensorboard --logdir {arguments.run}"""
    )


def main(words: list[str] | None = None) -> None:
    """Entry point of ``python -m agents.hybrid.demo`` and of ``dqmq demo``."""
    arguments = tyro.cli(DemoArguments, description=__doc__, args=words, prog="dqmq demo")
    with one_line_errors("dqmq demo"):
        settings = asdict(arguments)
        for name in ("run", "processes"):
            del settings[name]
        claim_run_folder(arguments.run, settings)
        print(f"training the hybrid network and uniform {UNIFORM} bits, {arguments.images} images")
        report(arguments, train_all(arguments))


if __name__ == "__main__":
    main()
