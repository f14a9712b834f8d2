"""Train the hybrid agent: bits that follow each image, learned jointly with quantised weights.

The network starts from a shipped float checkpoint, or it is one of your own over a folder of your
own images. Its weights, its quantisers' step sizes and the policy that gives each layer its bits
are trained together on images of mixed quality, under a bound on the average BOPs. A run that was
killed goes on where its last saved step ended when the same command is given again, and ends with
the same numbers. (`dqmq tune` trains the weights alone, at bits that `dqmq search` has found.)

Two presets of settings that go together, of which each option changes one:

by-value (usual). One decision for the whole network, before the first decided layer: the image
takes a rung of a ladder from the lowest width of all layers to the highest (--ladder), and one of
the two next to the budget (--reach), by the loss that it is expected to have there and a price for
the BOPs. What is expected is fitted to losses that were measured (--value-images, --refits) or,
before the training, forecast from the float network (--search-share 0): one pass of each of these
images is the search, and all of the training is left for the weights. Each width of a layer has a
norm of its own (--align), and sees all kinds of images (--explore).

by-layer. A decision before each layer, which may use what the layers before it have seen. Bits are
drawn from a distribution (--distribution), and the policy learns by the gradient through the
quantised network (--gradient) in the first part of the training (--search-share); then bits stay
what they are for what is seen, and weights alone go on learning.

Under both the grids that layers' outputs are rounded on follow the image too (--follow): a scale
and an offset of each channel, learned by gradients through the network. So does the grid of the
image itself: pale and dark ones are brought to the usual contrast and brightness.
In our experiments grids are nearly all of what following the image gains (docs/experiments.md).
What the policy sees is --sees; each of its eyes has a price in BOPs, which the budget counts.
--granularity says what is followed: each image, each batch of images of one condition, or nothing
(static: the ablation). With --lowest-budget one run learns the bits for every budget from there to
--budget. --weight-bits fixes the weights, so that decisions are about activations alone and one
code of each weight serves all of them. --distillation is how much the float network teaches. After
training, statistics of norms are measured anew and the budget is met from below, with the decisions
as they will be: without draws.

Examples:
  dqmq train                                 # ResNet-20, 14% of the 8-bit BOPs, embedded images
  dqmq train --budget 0.1 --run runs/tight
  dqmq train by-layer --run runs/layers      # bits of each layer move on their own
  dqmq train --granularity static --run runs/static
  dqmq train --follow bits --run runs/bits   # grids are the same for all images
  dqmq train --bits 1 2 3 4 --weight-bits 2 --budget 0.08 --run runs/activations
  dqmq train --lowest-budget 0.08 --budget 0.3 --run runs/many    # one run, many budgets
  dqmq train --learning-rate 0 --images 4000 --run runs/bits    # weights stay; bits alone
  dqmq train --data FOLDER --images 580000    # ten passes over the full Fashion-MNIST
  dqmq train --network mynet:make --weights mynet.pt --data photos --run runs/mine
  tensorboard --logdir runs                  # losses, multiplier, bits per layer and condition
"""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import torch
import tyro

import dqmq_env  # noqa: F401 - registers the environments
from agents.hybrid.agent import HybridAgent
from agents.hybrid.settings import PRESETS, HybridSettings, preset
from agents.hybrid.table import print_table
from dqmq_env.envs.network_arguments import NetworkArguments, reads_folder
from dqmq_env.evaluation.report import evaluate
from dqmq_env.problem.digests import digests
from dqmq_env.program import one_line_errors
from dqmq_env.training.final_images import final_images
from dqmq_env.training.loop import Schedule
from dqmq_env.training.run_folder import working_in


@dataclass(frozen=True)
class TrainArguments:
    """What to train, how long, and where to put it.

    Attributes:
        network: and images.
        granularity: what bits follow: image, batch, or static for nothing.
        hybrid: the policy's side.
        schedule: how long and how fast.
        run: folder of the run: settings, resumable state, TensorBoard events, agent, evaluation.
        device: auto, cpu, cuda or any other name that torch knows.
        threads: CPU threads of torch; 0 leaves its own choice.
        train_images: images of a folder that weights are trained on; fewer where there are fewer.
        test_images: images of the test split that each condition is judged on at the end.
    """

    network: NetworkArguments = field(default_factory=NetworkArguments)
    granularity: Literal["image", "batch", "static"] = "image"
    hybrid: HybridSettings = field(default_factory=preset)
    schedule: Schedule = field(default_factory=Schedule)
    run: Path = Path("runs/hybrid")
    device: str = "auto"
    threads: int = 0
    train_images: int = 20_000
    test_images: int = 4_000

    @property
    def environment(self) -> dict[str, Any]:
        """The environment that is trained on: its ``id``, and its keyword ``settings``."""
        name = self.network.id
        numbers = ("train_images", "test_images") if reads_folder(name) else ()
        further = {own: getattr(self, own) for own in ("granularity", *numbers)}
        return {"id": name, "settings": self.network.settings(further)}


def train(arguments: TrainArguments) -> None:
    """Train, save the agent, evaluate it on the ``test`` split, print the table."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    environment = arguments.environment
    env = gym.make(environment["id"], **environment["settings"])
    agent = HybridAgent(
        env, arguments.hybrid, arguments.schedule, arguments.run, device=arguments.device
    )
    settings = {"environment": environment, **asdict(arguments)}
    for name in ("network", "run", "device", "threads"):
        del settings[name]
    settings |= digests(agent.problem)
    with working_in(arguments.run, settings):
        agent.learn(progress_bar=True)
        agent.save(arguments.run / "agent.dqmq")
    layers = [spec.name for spec in agent.problem.layers]
    images, conditions = final_images(agent.problem, arguments.test_images)
    results = [
        evaluate(f"at-{budget:.3f}", layers, agent.deployed(budget), images, conditions)
        for budget in evaluated_budgets(arguments.hybrid)
    ]
    for result in results:
        name = "evaluation" if len(results) == 1 else f"evaluation-{result.name}"
        result.save(arguments.run / f"{name}.json")
    print_table(results)
    print(f"\nagent       {arguments.run / 'agent.dqmq'}")
    print(f"evaluation  {arguments.run}/evaluation*.json")
    print(f"curves      tensorboard --logdir {arguments.run}")


def evaluated_budgets(settings: HybridSettings) -> list[float]:
    """The budget; of a range, four that divide it evenly on a logarithmic scale."""
    low, high = settings.budgets
    return [high] if low == high else [low * (high / low) ** (k / 3) for k in range(4)]


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``python -m agents.hybrid.train`` and of ``dqmq train``."""
    words = sys.argv[1:] if arguments is None else arguments
    named = [word for word in words[:1] if word in PRESETS]
    parsed = tyro.cli(
        TrainArguments,
        description=__doc__,
        default=TrainArguments(hybrid=preset(*named)),
        args=words[len(named) :],
        prog=f"dqmq train [{'|'.join(PRESETS)}]",
        config=(tyro.conf.OmitArgPrefixes,),
    )
    with one_line_errors("dqmq train"):
        train(parsed)


if __name__ == "__main__":
    main()
