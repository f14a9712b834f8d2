"""How good the gradients are that the policy learns from, against the exact one.

``python -m agents.hybrid.gradient_study`` writes ``benchmarks/GRADIENT.md``. On a small network
with one decision for all images every assignment can be tried, so that the expected loss of a
batch, and its gradient in the policy's parameters, are known exactly. Each estimate is drawn many
times for the same batch and the same parameters.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from agents.hybrid.agent import HybridAgent
from agents.hybrid.controller import Controller, Sampling
from agents.hybrid.gradient import GRADIENTS, Gradient
from agents.hybrid.objective import paired_term, score_term
from agents.hybrid.settings import HybridSettings
from agents.hybrid.view import blind_look
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.envs.zoo import ZooSetting
from dqmq_env.files import atomic_write_text
from dqmq_env.machine import processor_name
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.progress import progress
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.surgery import eval_mode
from dqmq_env.randomness import torch_generator
from dqmq_env.training.loop import Schedule

_BITS = (2, 3, 4)
_BATCH = 128
_GROUP = 32


@dataclass(frozen=True)
class Estimate:
    """Of one gradient on one batch, over many draws.

    Attributes:
        cosine: between the mean of the draws and the exact gradient.
        length: of the mean, as a fraction of the exact one's.
        noise: root of the summed variance of a draw, as a fraction of the exact gradient's length.
        seconds: of a draw.
    """

    cosine: float
    length: float
    noise: float
    seconds: float

    @property
    def draws(self) -> float:
        """Draws whose mean has as much noise as the exact gradient has length."""
        return max(1.0, self.noise**2)


class Study:
    """An agent that stands still, and a batch.

    Args:
        agent: of granularity ``static``.
        temperature: of its policy.
        number: of the batch.
    """

    def __init__(self, agent: HybridAgent, temperature: float, number: int) -> None:
        self.agent, self.temperature = agent, temperature
        problem = agent.problem
        batches = MixedQualityBatches(problem.data.train, problem.mixture, _BATCH, seed=number)
        batch = batches.at(0)
        self.x, self.labels = problem.normalize(batch.images), batch.labels
        groups = len(batch.images) // _GROUP
        self.scene = agent.policy.scene(batch.images, groups)
        self.budget = torch.full((groups,), agent.settings.budget)
        self.parameters = list(agent.policy.head.parameters())

    def exact(self) -> Tensor:
        """The gradient of the expected loss, over all assignments."""
        policy, network = self.agent.policy, self.agent.network
        decisions = [layer for layer in network.layers if len(layer.options) > 1]
        look = blind_look(self.budget)
        rows = [
            policy.draw(number, look, self.budget[:1], None, self.temperature)[0].probabilities[0]
            for number in range(len(decisions))
        ]
        losses, places = [], list(product(range(len(_BITS)), repeat=len(decisions)))
        fixed = {layer.spec.name: layer.options[0] for layer in network.layers}
        with torch.no_grad():
            for own in places:
                chosen = {
                    layer.spec.name: layer.options[place]
                    for layer, place in zip(decisions, own, strict=True)
                }
                logits = network(self.x, BitAssignment(fixed | chosen))
                losses.append(F.cross_entropy(logits, self.labels))
        numbers = torch.tensor(places)
        shares = torch.stack([row[numbers[:, n]] for n, row in enumerate(rows)], 1).prod(1)
        return self._gradient((shares * torch.stack(losses)).sum())

    def drawn(self, name: str, number: int) -> Tensor:
        """One draw of an estimate."""
        gradient, generator = GRADIENTS[name], torch_generator(number, "gradient study")
        losses, controller = self._losses(gradient, generator)
        task = losses.mean()
        if gradient.paired:
            with torch.no_grad():
                against, other = self._losses(gradient, generator)
            task = task + paired_term(losses, controller, against, other)
        elif controller.log_probability is not None:
            task = task + score_term(losses, controller.log_probability)
        return self._gradient(task)

    def estimate(self, name: str, exact: Tensor, draws: int) -> Estimate:
        """How an estimate does."""
        begun = time.perf_counter()
        found = torch.stack([self.drawn(name, number) for number in range(draws)])
        seconds = (time.perf_counter() - begun) / draws
        mean, length = found.mean(0), exact.norm()
        return Estimate(
            float(F.cosine_similarity(mean, exact, dim=0)),
            float(mean.norm() / length),
            float(found.var(0).sum().sqrt() / length),
            seconds,
        )

    def _losses(self, gradient: Gradient, generator: torch.Generator) -> tuple[Tensor, Controller]:
        controller = Controller(
            self.agent.policy,
            self.agent.network,
            self.agent.costing,
            self.scene,
            self.budget,
            self.temperature,
            Sampling(gradient, generator),
        )
        logits = self.agent.network(self.x, controller)
        return F.cross_entropy(logits, self.labels, reduction="none"), controller

    def _gradient(self, value: Tensor) -> Tensor:
        found = torch.autograd.grad(value, self.parameters, allow_unused=True)
        together = zip(found, self.parameters, strict=True)
        return torch.cat(
            [(torch.zeros_like(own) if part is None else part).flatten() for part, own in together]
        )


def agent_after(problem: NetworkProblem, steps: int, distribution: str) -> HybridAgent:
    """An agent that has been trained for some steps."""
    settings = HybridSettings(budget=0.12, distribution=distribution, group=_GROUP)
    agent = HybridAgent(
        BitWidthEnv(problem), settings, Schedule(images=_BATCH * 1000), device="cpu"
    )
    for _ in range(steps):
        agent.trainer.advance()
    return agent


def rows(steps: tuple[int, ...], draws: int, batches: int) -> Iterator[str]:
    """The rows of the table."""
    problem = ZooSetting(
        checkpoint="resnet8-width8-fashion-mnist", granularity="static", bits=_BITS
    ).problem()
    for distribution in ("logistic", "softmax"):
        for count in steps:
            agent = agent_after(problem, count, distribution)
            with eval_mode(agent.network):
                studies = [
                    Study(agent, agent.settings.temperature(count / 1000), number)
                    for number in range(batches)
                ]
                exact = [study.exact() for study in studies]
                for name in GRADIENTS:
                    found = [
                        study.estimate(name, own, draws)
                        for study, own in zip(studies, exact, strict=True)
                    ]
                    yield _row(distribution, count, name, found)


def _row(distribution: str, steps: int, name: str, found: list[Estimate]) -> str:
    def middle(value: Callable[[Estimate], float]) -> float:
        return float(torch.tensor([value(own) for own in found]).median())

    return (
        f"| {distribution} | {steps} | {name} | {middle(lambda e: e.cosine):.3f} | "
        f"{middle(lambda e: e.length):.2f} | {middle(lambda e: e.noise):.2f} | "
        f"{middle(lambda e: e.draws):.0f} | {1000 * middle(lambda e: e.seconds):.0f} |"
    )


def main(
    steps: tuple[int, ...] = (0, 200),
    draws: int = 300,
    batches: int = 3,
    output: Path = Path("benchmarks/GRADIENT.md"),
) -> None:
    """Measure and write the table.

    Args:
        steps: of training before the agent stands still.
        draws: of each estimate.
        batches: medians are over them.
        output: the Markdown file.
    """
    torch.set_num_threads(1)
    total = 2 * len(steps) * len(GRADIENTS)
    made = []
    with progress(total, "gradients", "row") as bar:
        for row in rows(steps, draws, batches):
            made.append(row)
            bar.update()
    text = _TEXT.format(
        machine=processor_name(), draws=draws, batches=batches, rows="\n".join(made)
    )
    atomic_write_text(output, text)
    print(text)


_TEXT = """# Gradients of the policy

Made by `python -m agents.hybrid.gradient_study` on {machine}, one thread.

ResNet-8 of width 8, Fashion-MNIST, bits 2, 3 and 4 for six layers, one decision for all images
(`static`), a budget of 0.12; batches of 128 images in four groups that draw for themselves; weights
and steps as the agent has trained them for so many steps of 1,000. The exact gradient of the
expected loss, with respect to the parameters of the head, is over all 729 assignments. {draws}
draws of each estimate for the same batch; medians over {batches} batches.

*cosine*: between the mean of the draws and the exact gradient (1: the direction is right in the
mean). *length*: of that mean, as a fraction of the exact one's. *noise*: of one draw, as a fraction
of the exact gradient's length. *draws*: so many have to be averaged before the noise is as small as
the gradient is long. *ms*: of a draw, forward and backward.

`score` is the score function with the mean of the other groups as baseline: what model-free policy
gradients do; `paired` compares with a second draw for the same images instead. They have no bias:
where a cosine is below 1, {draws} draws do not suffice to show it.

| distribution | steps | gradient | cosine | length | noise | draws | ms |
|---|---:|---|---:|---:|---:|---:|---:|
{rows}
"""


if __name__ == "__main__":
    tyro.cli(main)
