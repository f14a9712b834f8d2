"""How few images find a rule where weights are frozen, on the tabular twin, beside PPO.

``python -m agents.hybrid.twin_study`` writes ``benchmarks/TWIN.md``. The table knows the reward of
every rule, and so of the best one. Behind it stands a live network, as post-training quantisation
left it: the hybrid agent learns its policy on training images by gradients through that network,
and never sees an answer of the table. Its rule is then looked up.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import tyro

from agents.hybrid.agent import HybridAgent
from agents.hybrid.settings import HybridSettings
from dqmq_env.benchmark.job import Job, Score
from dqmq_env.benchmark.report.runs import over_mixture
from dqmq_env.benchmark.resolve import environment_of
from dqmq_env.benchmark.run_job import run_in, scores_of
from dqmq_env.benchmark.statistics import first_reaching
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.files import atomic_write_text
from dqmq_env.machine import processor_name
from dqmq_env.problem.build_table import TableArguments, table_problem
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.progress import progress
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.rule import Rule, rule_of
from dqmq_env.training.loop import Schedule

_BATCH: Final = 16
"""Small, since the mean over all widths has little noise and many steps are what it needs."""
_POLICY_RATE: Final = 0.12
"""High, since these are few."""
_GAP: Final = 0.01
_EVALUATIONS: Final = 2_000


@dataclass(frozen=True)
class Shares:
    """What a rule gets of the reward of the best one, which is the best on ``search``.

    Attributes:
        search: on the images that the best rule was chosen by, 1 at most.
        test: on images that have no part in any choice; the best rule was lucky on the others.
    """

    search: float
    test: float


@dataclass(frozen=True)
class Found:
    """What one run of the agent came to.

    Attributes:
        shares: of its rule.
        images: that a gradient was computed on, or that passed through the network otherwise.
    """

    shares: Shares
    images: int


@dataclass(frozen=True)
class Tried:
    """What one run of PPO came to.

    Attributes:
        shares: of the rule that it ends with.
        evaluations: until the best that it has tried is within 1% of the optimum, if ever.
    """

    shares: Shares
    evaluations: int | None


def agent_run(live: NetworkProblem, env: BitWidthEnv, images: int, seed: int) -> Found:
    """Learn a policy over frozen weights, and look its rule up.

    Args:
        live: what the table was made of, for one decision for all images.
        env: over the table.
        images: that the policy is learned on.
        seed: of order and noise.
    """
    problem, task = env.problem, env.core.task
    settings = HybridSettings(
        budget=task.budget.fraction,
        gradient="relaxed",
        group=_BATCH,
        policy_rate=_POLICY_RATE,
        multiplier_rate=0.05,
        search_share=1.0,
        settle_images=_BATCH,
    )
    schedule = Schedule(images=images, batch=_BATCH, learning_rate=0.0, seed=seed)
    agent = HybridAgent(BitWidthEnv(live), settings, schedule, device="cpu").learn()
    scores = scores_of(rule_of(agent, problem, task), problem, task)
    shares = _shares(scores, best_scores(env))
    return Found(shares, schedule.trained_images + agent.images_settled)


def ppo_run(job: Job, env: BitWidthEnv) -> Tried:
    """Search the table with PPO."""
    result = run_in(env, job)
    assert result.optimum is not None, "a table knows it"
    evaluations = first_reaching(result.curve, (1 - _GAP) * result.optimum)
    return Tried(_shares(result.scores, best_scores(env)), evaluations)


def best_scores(env: BitWidthEnv) -> Sequence[Score]:
    """Of the rule that has the highest reward under each condition."""
    problem, task = env.problem, env.core.task
    assert isinstance(problem, TableProblem), "a table knows it"
    best: dict[Condition | str, BitAssignment] = {
        own: problem.optimum(own, task).assignment for own in problem.mixture.conditions
    }
    return scores_of(Rule(best), problem, task)


def _shares(scores: Sequence[Score], best: Sequence[Score]) -> Shares:
    """Accuracy is the reward."""

    def share(number: Callable[[Score], float]) -> float:
        return over_mixture(scores, number) / over_mixture(best, number)

    return Shares(share(lambda score: score.reward), share(lambda score: score.test))


def ppo_job(budget: float, seed: int) -> Job:
    """PPO on the tabular twin, accuracy as the reward under a hard budget."""
    return Job(
        agent="baselines.sb3:SB3Search",
        id="DQMQ-ResNet8-Tabular-v0",
        evaluations=_EVALUATIONS,
        seed=seed,
        settings={"algorithm": "ppo"},
        env={"budget": budget, "weight": 0.0},
    )


def _row(budget: float, found: Sequence[Found], ppo: Sequence[Tried], batch_images: int) -> str:
    counts = [_EVALUATIONS if own.evaluations is None else own.evaluations for own in ppo]
    middle = int(statistics.median(counts))
    images, asked = max(own.images for own in found), middle * batch_images
    cells = [
        f"{budget:g}",
        *_of([own.shares.search for own in found]),
        *_of([own.shares.test for own in found]),
        *_of([own.shares.test for own in ppo]),
        *(f"{number:,}" for number in (images, middle, asked)),
        f"{asked / images:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _of(shares: Sequence[float]) -> tuple[str, str]:
    """The mean share with its range, and how many are within 1%."""
    mean, low, high = (
        f"{100 * own:.2f}" for own in (statistics.mean(shares), min(shares), max(shares))
    )
    within = sum(share >= 1 - _GAP for share in shares)
    return f"{mean} ({low} to {high})", f"{within} of {len(shares)}"


def main(
    budgets: tuple[float, ...] = (0.15, 0.2, 0.3),
    seeds: int = 10,
    first_seed: int = 0,
    images: int = 3_900,
    output: Path = Path("benchmarks/TWIN.md"),
) -> None:
    """Measure and write the table.

    Args:
        budgets: hard bounds on the BOPs, as fractions of those at 8 bits.
        seeds: runs at each budget, of both.
        first_seed: the seeds go on from here; settings were chosen by 1000 and above.
        images: that the agent trains on.
        output: the Markdown file.
    """
    torch.set_num_threads(1)
    live = table_problem(TableArguments(), granularity="static")
    rows = []
    with progress(2 * len(budgets) * seeds, "twin", "run") as bar:
        for budget in budgets:
            jobs = [ppo_job(budget, first_seed + number) for number in range(seeds)]
            env = environment_of(jobs[0])
            found, ppo = [], []
            for job in jobs:
                found.append(agent_run(live, env, images, job.seed))
                bar.update()
                ppo.append(ppo_run(job, env))
                bar.update()
            rows.append(_row(budget, found, ppo, env.problem.batch_images))
    text = _TEXT.format(
        machine=processor_name(),
        seeds=seeds,
        evaluations=_EVALUATIONS,
        heading=" | ".join(_HEADING),
        rows="\n".join(rows),
    )
    atomic_write_text(output, text)
    print(text)


_HEADING = (
    "budget",
    "hybrid: share (range)",
    "within 1%",
    "on `test`",
    "within 1%",
    "PPO on `test`",
    "within 1%",
    "images",
    "PPO: evaluations",
    "images",
    "times as many",
)

_TEXT = """# Finding a rule over frozen weights

Made by `python -m agents.hybrid.twin_study` on {machine}, one thread; {seeds} seeds.

The tabular twin of ResNet-8, accuracy on `search` under a hard budget as the reward; a share is the
mean reward over nine conditions of the rule that a run ends with, in percent of that of the best
rule. The hybrid agent (`static`: one decision a layer for all images; relaxed gradient) learns by
gradients through the live network behind the table, as post-training quantisation left it, on
training images that no reward is measured on, and minimises cross-entropy. PPO sees the rewards;
an evaluation is 2,000 images at one assignment under one condition, and the median number is given
until the best that it has tried is within 1% of the optimum, known at the marks 100, 200, 500, and
so on.

The best rule is chosen on `search`, the luckiest of 15,625 assignments under each condition on
2,000 images. So shares are given on `test`, too, where no choice was made: of the rule that the
agent, and PPO after {evaluations:,} evaluations, ends with.

| {heading} |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
{rows}
"""


if __name__ == "__main__":
    tyro.cli(main)
