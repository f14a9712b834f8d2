"""``make bench``: speed as ratios, ours against a reference, in turn in one run.

Writes ``benchmarks/RESULTS.md``. A ratio is the median over rounds of the quotient of two times
taken one after the other; the spread is the range of the middle half of the rounds.
"""

import os
import platform
import resource
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro

from dqmq_env.benchmark.haq_loop import haq_style_episode
from dqmq_env.benchmark.row import Row, compare
from dqmq_env.benchmark.tabular_speed import tabular_rows
from dqmq_env.envs.episodes import Starts
from dqmq_env.envs.live import LiveBatch
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.envs.vector import BitWidthVectorEnv
from dqmq_env.envs.zoo import ZooSetting
from dqmq_env.files import atomic_write_text
from dqmq_env.integrations.sb3 import VecEnvAdapter
from dqmq_env.machine import processor_name
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.pass_key import PassKey
from dqmq_env.progress import progress
from dqmq_env.quality import Condition
from dqmq_env.quantization.assignment import BitAssignment

IMAGES = 512
_CONDITION = "gaussian_noise/3"
_MANY = 64


class Suite:
    """The comparisons over one problem.

    Args:
        problem: ResNet-20 with batches of 512 images.
        rounds: of each comparison.
    """

    def __init__(self, problem: NetworkProblem, rounds: int) -> None:
        self.problem, self.rounds = problem, rounds
        self.rng = np.random.default_rng(0)
        self.condition = Condition.parse(_CONDITION)
        images, _ = problem.batch(PassKey("search", self.condition, 0))
        self.x = problem.normalize(images)
        self.env = BitWidthEnv(problem)
        self.widths = self.env.core.candidates
        self.decisions = self.env.core.decisions

    def rows(self) -> list[Callable[[], Row]]:
        """What makes each row."""
        return [
            self.episode,
            self.independent,
            self.agreeing,
            self.haq_by_one,
            self.haq_by_many,
            self.ppo_on_images,
            self.ppo_on_batches,
        ]

    def episode(self) -> Row:
        """One episode with an assignment never seen before, against one float pass."""

        def reference() -> None:
            with torch.no_grad():
                self.problem.quantized(self.x, self._float())

        what = f"an episode, {IMAGES} images, against a float pass of the folded network"
        return compare(what, "<= 1.25", self._play, reference, self.rounds)

    def independent(self) -> Row:
        """64 random assignments at once, against 64 plain passes."""
        return self._many("64 random assignments against 64 plain passes", "<= 0.9", 0.0)

    def agreeing(self) -> Row:
        """64 assignments that agree on nine decisions of ten, against 64 plain passes."""
        what = "64 assignments that agree on 90% of decisions against 64 plain passes"
        return self._many(what, "<= 0.35", 0.9)

    def haq_by_one(self) -> Row:
        """Episodes a second of one environment, against a loop in HAQ's manner."""
        what = "episodes a second against a HAQ-style loop: one environment, random bits"
        return compare(what, ">= 5", self._play, self._haq, self.rounds)

    def haq_by_many(self) -> Row:
        """The same of 64 environments, as late in training, when a policy has settled."""
        what = "the same: 64 environments that agree on 90% of decisions"
        ours = self._play_many(0.9)
        return compare(what, ">= 5", ours, self._haq, max(1, self.rounds // 4), times=_MANY)

    def _haq(self) -> None:
        """One episode of HAQ's loop with random bits."""
        images, labels = self.problem.batch(PassKey("search", self.condition, 0))
        haq_style_episode(self.problem, images, labels, self._bits(self._random(1)[0]))

    def ppo_on_images(self) -> Row:
        """PPO of Stable-Baselines3 with an image in each episode."""
        return self._ppo(64, "an image", ZooSetting(granularity="image"))

    def ppo_on_batches(self) -> Row:
        """PPO of Stable-Baselines3 with a batch in each episode."""
        return self._ppo(16, "250 images", ZooSetting(batch_size=250))

    def _ppo(self, count: int, episode: str, setting: ZooSetting) -> Row:
        """The adapter over the native vector class, against ``DummyVecEnv``."""
        from stable_baselines3 import PPO
        from stable_baselines3.common.vec_env import DummyVecEnv

        problem = setting.problem()
        steps = self.decisions

        def learn(env: Any) -> None:
            PPO(
                "MlpPolicy", env, n_steps=steps, batch_size=4 * steps, n_epochs=4, device="cpu"
            ).learn(2 * count * steps)

        ours = VecEnvAdapter(BitWidthVectorEnv(count, problem))
        dummy = DummyVecEnv([lambda: BitWidthEnv(problem) for _ in range(count)])
        return compare(
            f"PPO, {count} environments of {episode}: adapter over the vector class against "
            "DummyVecEnv",
            ">= 3",
            lambda: learn(ours),
            lambda: learn(dummy),
            max(1, self.rounds // 4),
        )

    def _many(self, what: str, bar: str, agreement: float) -> Row:
        names = [spec.name for spec in self.problem.layers]

        def reference() -> None:
            for row in self._draw(agreement):
                pairs = {n: (b, b) for n, b in zip(names, self._bits(row), strict=True)}
                with torch.no_grad():
                    self.problem.quantized(self.x, BitAssignment(pairs))

        ours = self._play_many(agreement)
        return compare(what, bar, ours, reference, max(1, self.rounds // 4))

    def _play_many(self, agreement: float) -> Callable[[], None]:
        """Plays 64 episodes at once, over the same images."""
        episodes = LiveBatch(self.env.core, _MANY)
        starts = Starts.of([self.condition] * _MANY, [0] * _MANY)

        def play() -> None:
            episodes.reset(starts)
            episodes.decide(self._draw(agreement))

        return play

    def _draw(self, agreement: float) -> np.ndarray:
        """Random decisions, shape (64, D), each of them that of the first row so often."""
        rows = self._random(_MANY)
        keep = self.rng.random(rows.shape) < agreement
        return np.where(keep, rows[0], rows)

    def _bits(self, indices: np.ndarray) -> list[int]:
        """Of all layers."""
        return [8, *(self.widths[index] for index in indices), 8]

    def _play(self) -> None:
        """One episode with random bits."""
        self.env.reset(options={"condition": _CONDITION, "batch": 0})
        for action in self._random(1)[0]:
            self.env.step(action)

    def _random(self, count: int) -> np.ndarray:
        return self.rng.integers(len(self.widths), size=(count, self.decisions))

    def _float(self) -> BitAssignment:
        return BitAssignment.uniform((spec.name for spec in self.problem.layers), 32)


def report(rows: list[Row], threads: int, rounds: int) -> str:
    """The table in Markdown, with machine and versions."""
    lines = [
        "# Speed",
        "",
        "Made by `make bench`. `<=`: our time over the reference's; `>=`: times faster; if the row "
        "does not say otherwise.",
        "",
        f"{processor_name()}, {os.cpu_count()} cores, {threads} threads; Python "
        f"{platform.python_version()}, torch {version('torch')}, gymnasium {version('gymnasium')}; "
        f"{rounds} rounds.",
        "",
        "| what | ratio | middle half | bar | met |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        verdict = "yes" if row.met else "no"
        middle = f"{row.low:.2f}-{row.high:.2f}"
        lines.append(f"| {row.what} | {row.ratio:.2f} | {middle} | {row.bar} | {verdict} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines += ["", f"Peak memory of the whole run: {peak:.0f} MiB.", ""]
    return "\n".join(lines)


def main(rounds: int = 8, threads: int = 2, output: Path = Path("benchmarks/RESULTS.md")) -> None:
    """Measure and write the table.

    Args:
        rounds: pairs of times in each comparison.
        threads: of torch.
        output: the Markdown file.
    """
    torch.set_num_threads(threads)
    gym.logger.min_level = gym.logger.ERROR
    problem = ZooSetting(batch_size=IMAGES).problem()
    made = []
    parts = [*Suite(problem, rounds).rows(), *tabular_rows(rounds)]
    with progress(len(parts), "bench", "row") as bar:
        for part in parts:
            made.append(part())
            bar.update()
    text = report(made, threads, rounds)
    output.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(output, text)
    print(text)


if __name__ == "__main__":
    tyro.cli(main)
