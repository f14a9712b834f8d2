"""Results as a benchmark would give them, made up quickly: for tests of the report."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dqmq_env.benchmark.job import Job, Result, Score
from dqmq_env.randomness import numpy_generator

CONDITIONS = (
    "clean",
    "gaussian_noise/3",
    "shot_noise/3",
    "gaussian_blur/3",
    "motion_blur/3",
    "brightness/3",
    "contrast/3",
    "pixelate/3",
    "jpeg/3",
)
LAYERS = ("conv1", "layer1", "layer2", "fc")
HOSTILE = "greedy </script><b>|&"
AGENTS = {
    "random": ("baselines.random_search:RandomSearch", 0.5),
    HOSTILE: ("baselines.greedy:GreedySearch", 0.7),
    "hybrid": ("agents.hybrid.search:HybridSearch", 0.9),
}
TABULAR, LIVE = "DQMQ-ResNet8-Tabular-v0", "DQMQ-ResNet20-v0"
SEEDS = range(5)


def made(agent: str, task: str, seed: int, **job: Any) -> Result:
    """The result of an agent that is as good as :data:`AGENTS` says, up to noise by the seed.

    Uniform bits have a reward of 0.8, the optimum 0.9 where it is known. Runs on :data:`LIVE` know
    none, were fine-tuned and give weights and activations bits of their own.
    """
    kind, skill = AGENTS[agent]
    generator = numpy_generator(seed, "made result", agent, task)
    skill += float(generator.normal(0, 0.03))
    live = task == LIVE
    fields: dict[str, Any] = {"label": agent, "fine_tune": {"steps": 10} if live else None}
    fields |= {"env": {"budget": 0.2} if live else {}}
    return Result(
        Job(kind, task, 1000, seed, **(fields | job)),
        {condition: _bits(generator, live) for condition in CONDITIONS},
        [_score(condition, 0.8 + 0.1 * skill, live) for condition in CONDITIONS],
        [_score(condition, 0.8, live) for condition in CONDITIONS],
        _curve(skill) if agent != HOSTILE else [],
        {"evaluations": 1000 * (agent != HOSTILE), "images_evaluated": 10**6, "images_trained": 7},
        1.5 + seed / 7,
        {"search": 2000, "test": 2000},
        "0a" * 32 if kind.startswith("baselines") else "1b" * 32,
        {"processor": "made up", "torch": "2.15"},
    )


def all_made() -> list[Result]:
    """Three agents on two tasks by five seeds."""
    return [
        made(agent, task, seed) for agent in AGENTS for task in (TABULAR, LIVE) for seed in SEEDS
    ]


def write(folder: Path, results: Iterable[Result]) -> Path:
    """Make the folder of a run."""
    (folder / "results").mkdir(parents=True)
    for result in results:
        (folder / "results" / f"{result.job.key}.json").write_text(result.to_json())
    return folder


def with_reward(result: Result, reward: float) -> Result:
    """The same with that reward under every condition."""
    return replace(result, scores=[replace(score, reward=reward) for score in result.scores])


def _score(condition: str, reward: float, live: bool) -> Score:
    place = CONDITIONS.index(condition)
    accuracy = reward - 0.01 * place
    return Score(
        condition,
        1 / len(CONDITIONS),
        reward,
        accuracy,
        accuracy - 0.02,
        {"size": 0.4 + reward / 10, "bops": reward / 5 + place / 200},
        None if live else 0.9,
        accuracy + 0.01 if live else None,
    )


def _bits(generator: Any, live: bool) -> dict[str, list[int]]:
    widths = generator.choice((2, 3, 4, 6, 8), (len(LAYERS), 2)).tolist()
    return {layer: own if live else [own[0]] * 2 for layer, own in zip(LAYERS, widths, strict=True)}


def _curve(skill: float) -> list[tuple[int, float]]:
    """Ends at the reward of the rule."""
    marks = (9, 10, 20, 50, 100, 200, 500, 1000)
    return [(mark, 0.8 + 0.1 * skill * (place + 1) / 8) for place, mark in enumerate(marks)]
