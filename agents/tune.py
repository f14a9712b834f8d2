"""Train the weights of a network at the bits that `dqmq search` has found for it.

The float network, its quantisers' step sizes and its batch norms are trained on images of mixed
quality (those of the search's --conditions); bits stay what they are. A run that was killed goes on
where its last saved step ended when the same command is given again, and ends with the same
numbers. Then the network is judged on the test split, beside the float one and itself untrained.

Examples:
  dqmq tune --found runs/search --run runs/tuned --images 12000
  dqmq tune --found runs/sweep --assignment runs/sweep/bits/size-0.375.json --run runs/tuned
and then
  dqmq export --run runs/tuned --output small.dqmq
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro

from agents.hybrid.agent import choose_device
from agents.hybrid.table import print_table
from dqmq_env.envs.network_arguments import reads_folder
from dqmq_env.errors import SettingError
from dqmq_env.evaluation.deployed import StaticNetwork
from dqmq_env.evaluation.report import Evaluation, evaluate
from dqmq_env.export.bits_file import read_bits
from dqmq_env.export.found_bits import FoundBits
from dqmq_env.export.source import origin_of
from dqmq_env.problem.digests import digests
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.program import one_line_errors
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.training.final_images import final_images
from dqmq_env.training.fine_tune import fine_tune
from dqmq_env.training.loop import Schedule
from dqmq_env.training.run_folder import environment_of_run, working_in

# a high rate would first undo what the float network knows; its answers say more than labels do
SHORT = Schedule(images=12_000, learning_rate=3e-4, distillation=1.0)


@dataclass(frozen=True)
class TuneArguments:
    """What to train, how long, and where to put it.

    Attributes:
        found: run of dqmq search: its network, its images and its bits.
        assignment: file with the bits, where the run has found several.
        schedule: how long and how fast.
        run: folder of the run: settings, resumable state, TensorBoard events, evaluation.
        device: auto, cpu, cuda or any other name that torch knows.
        threads: CPU threads of torch; 0 leaves its own choice.
        train_images: images of a folder that weights are trained on; fewer where there are fewer.
        test_images: images of the test split that each condition is judged on at the end.
    """

    found: Path
    assignment: Path | None = None
    schedule: Schedule = field(default_factory=lambda: SHORT)
    run: Path = Path("runs/tuned")
    device: str = "auto"
    threads: int = 0
    train_images: int = 20_000
    test_images: int = 4_000

    @property
    def environment(self) -> dict[str, Any]:
        """That of the search, with as many images: its ``id``, and its keyword ``settings``.

        Raises:
            SettingError: there is no such run.
            CheckpointError: its settings are damaged.
        """
        known = environment_of_run(self.found)
        if known is None:
            raise SettingError(f"found: got {self.found}, allowed is a run of dqmq search")
        name, settings = known
        if reads_folder(name):
            settings |= {"train_images": self.train_images, "test_images": self.test_images}
        return {"id": name, "settings": settings}

    @property
    def bits(self) -> BitAssignment:
        """Those that stay.

        Raises:
            AssignmentError: the file is missing or damaged, or the run has none or several.
            SettingError: they differ from condition to condition.
        """
        bits = read_bits(self.assignment) if self.assignment else FoundBits(self.found).only()
        if not isinstance(bits, BitAssignment):
            raise SettingError("found: got bits for each condition, allowed is one assignment")
        return bits


def tune(arguments: TuneArguments) -> list[Evaluation]:
    """Train and judge; returns how the network does in float, before training, and after it."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    bits, environment = arguments.bits, arguments.environment
    problem = origin_of(environment["id"], environment["settings"]).problem
    final_images(problem, arguments.test_images)  # refuses before the work, not after it
    settings = {
        "environment": environment,
        "bits": {name: list(pair) for name, pair in bits.items()},
        "schedule": asdict(arguments.schedule),
        "test_images": arguments.test_images,
        **digests(problem),
    }
    device = choose_device(arguments.device)
    with working_in(arguments.run, settings):
        tuned = fine_tune(
            problem, bits, arguments.schedule, arguments.run, progress_bar=True, device=device
        )
    return evaluations(problem, tuned, arguments.test_images)


def evaluations(problem: NetworkProblem, tuned: StaticNetwork, count: int) -> list[Evaluation]:
    """How a network does on ``test`` images in float, at its bits before training, and after it.

    Args:
        problem: that it was trained on.
        tuned: the network.
        count: of images; all where there are fewer.

    Raises:
        DataError: there are no test images.
    """
    images, conditions = final_images(problem, count)
    layers = list(tuned.assignment)
    exact = BitAssignment.uniform(layers, FLOAT_BITS)
    networks = {
        "float": StaticNetwork(problem.quantized, exact, problem.normalize),
        "before": StaticNetwork(problem.quantized, tuned.assignment, problem.normalize),
        "tuned": tuned,
    }
    return [
        evaluate(name, layers, network, images, conditions) for name, network in networks.items()
    ]


def main(words: list[str] | None = None) -> None:
    """Entry point of ``dqmq tune``."""
    arguments = tyro.cli(
        TuneArguments,
        description=__doc__,
        args=words,
        prog="dqmq tune",
        config=(tyro.conf.OmitArgPrefixes,),
    )
    with one_line_errors("dqmq tune"):
        results = tune(arguments)
        results[-1].save(arguments.run / "evaluation.json")
        print_table(results)
        print(f"\nweights     {arguments.run / 'state.dqmq'}")
        print(f"evaluation  {arguments.run / 'evaluation.json'}")
        print(f"curves      tensorboard --logdir {arguments.run}")


if __name__ == "__main__":
    main()
