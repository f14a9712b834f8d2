"""The methods that are compared: from a study, a budget and a seed to a network at work.

Each ends with a network that was trained on as many images as every other, by the same schedule.
What finding the bits took beside that is its effort.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from agents.experiments.study import Study
from agents.hybrid.agent import HybridAgent
from agents.hybrid.settings import BY_VALUE, PRESETS, HybridSettings
from baselines.dqnet.dqnet import DQNet
from baselines.haq.search import HAQ
from baselines.sb3.search import SB3Search
from baselines.sdq import SDQ
from baselines.sensitivity import SensitivityILP
from baselines.uniform import Uniform
from dqmq_env.evaluation.deployed import Deployed
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.protocol import Searcher
from dqmq_env.search.rule import rule_of
from dqmq_env.training.fine_tune import fine_tune


@dataclass(frozen=True)
class Trained:
    """What a method ends with.

    Attributes:
        network: at work.
        assignment: its bits, where they are the same for all images.
        images_evaluated: images that went through a network, without gradients, to find bits.
        images_trained: images that a gradient was computed on, to find bits: those of a search that
            goes before the training that all methods share, and those of the shared training in
            which bits were still looked for.
    """

    network: Deployed
    assignment: BitAssignment | None
    images_evaluated: int
    images_trained: int


def _searched(
    searcher: Searcher, study: Study, budget: float, seed: int, folder: Path | None
) -> Trained:
    """Look for one assignment, then train at it; who finds the same shares the training."""
    env = study.search_environment(budget)
    metered = MeteredProblem(env.problem, study.evaluations)
    agent = searcher.search(metered, env.core.task, study.evaluations, seed)
    spent = metered.spent
    assignment = next(iter(rule_of(agent, env.problem, env.core.task).values()))
    shared = None if folder is None else folder.parent / _name_of(assignment, study, seed)
    network = fine_tune(study.problem("static"), assignment, study.schedule(seed), shared)
    return Trained(network, assignment, spent.images_evaluated, spent.images_trained)


def _name_of(assignment: BitAssignment, study: Study, seed: int) -> str:
    digest = hashlib.sha256(assignment.to_json().encode()).hexdigest()
    kind = "standardised-" if study.standardized else ""
    return f"{kind}at-{digest[:16]}-{seed:03d}"


def _sdq(study: Study, budget: float, seed: int, folder: Path | None) -> Trained:
    """SDQ looks for bits on a tenth of the images, on top of the training that all have."""
    searcher = SDQ(images=study.train_images // 10, learning_rate=study.learning_rate)
    return _searched(searcher, study, budget, seed, folder)


_DQNET_HIDDEN = 8
"""With its usual 64 the controller alone would be a third of a small network's lowest BOPs."""


def _dqnet(study: Study, budget: float, seed: int, folder: Path | None) -> Trained:
    """Bits by image from one look behind the first stage, all trained together."""
    method = DQNet(
        images=study.train_images,
        learning_rate=study.learning_rate,
        choices=None,
        hidden=_DQNET_HIDDEN,
    )
    network = method.train(study.problem("image"), budget, seed, folder)
    return Trained(network, None, 0, study.schedule(seed).trained_images)


def _hybrid(
    granularity: str,
    further: Mapping[str, Any],
    study: Study,
    budget: float,
    seed: int,
    folder: Path | None,
) -> Trained:
    """The hybrid agent: bits and weights together, in as many images as the others have."""
    settings = HybridSettings(budget=budget, **{**study.hybrid, **further})
    env = study.environment(granularity, budget)
    agent = HybridAgent(env, settings, study.schedule(seed), folder, device="cpu")
    agent.learn()
    searched = round(settings.search_share * agent.schedule.steps) * agent.schedule.batch
    return Trained(agent.deployed(), None, agent.images_settled, searched)


def _many(
    further: Mapping[str, Any], study: Study, budget: float, seed: int, folder: Path | None
) -> Trained:
    """The same by image, trained once for all budgets of a range, and at work at one of them."""
    low, high = study.budget_range
    settings = HybridSettings(budget=high, lowest_budget=low, **{**study.hybrid, **further})
    shared = None if folder is None else folder.parent / f"many-{low:g}-{high:g}-{seed:03d}"
    env = study.environment("image", high)
    agent = HybridAgent(env, settings, study.schedule(seed), shared, device="cpu").learn()
    return Trained(agent.deployed(budget), None, agent.images_settled, 0)


_STATIC_SEARCHES: Mapping[str, Searcher] = {
    "uniform": Uniform(),
    "sensitivity ILP": SensitivityILP(scope="all"),
    "HAQ-style DDPG": HAQ(scope="all"),
    "PPO": SB3Search("ppo", "live"),
}

_STATIC = {**BY_VALUE, "refits": 0, "value_images": 128}
"""What is the same for all images asks for none of them."""
_IMAGE = {name: own for name, own in PRESETS["by-value"].items() if name != "sees"}
"""What it sees is a setting of the study."""

_METHODS: Mapping[str, partial[Trained]] = {
    **{name: partial(_searched, own) for name, own in _STATIC_SEARCHES.items()},
    "SDQ": partial(_sdq),
    "DQNet-style": partial(_dqnet),
    "hybrid, static": partial(_hybrid, "static", _STATIC),
    "hybrid, by image": partial(_hybrid, "image", _IMAGE),
    "hybrid, many budgets": partial(_many, _IMAGE),
    "hybrid, by layer": partial(_hybrid, "image", PRESETS["by-layer"]),
    "hybrid, bits alone": partial(_hybrid, "image", {**_IMAGE, "follow": ("bits",)}),
    "hybrid, grids alone": partial(_hybrid, "image", {**_STATIC, "follow": ("grids",)}),
    "hybrid, input alone": partial(_hybrid, "image", {**_STATIC, "follow": ("input",)}),
    "hybrid, grids and input": partial(_hybrid, "image", {**_STATIC, "follow": ("grids", "input")}),
    "hybrid, input as it is": partial(_hybrid, "image", {**_IMAGE, "follow": ("bits", "grids")}),
    "hybrid, bits far apart": partial(
        _hybrid, "image", {**_IMAGE, "ladder": 2, "reach": None, "follow": ("bits",)}
    ),
    "hybrid, static by gradient": partial(_hybrid, "static", {"gradient": "paired"}),
    "hybrid, not aligned": partial(_hybrid, "image", {**_IMAGE, "align": False}),
    "hybrid, not exploring": partial(_hybrid, "image", {**_IMAGE, "explore": 0.0}),
    "hybrid, forecast alone": partial(_hybrid, "image", {**_IMAGE, "refits": 0}),
    "hybrid, by batch": partial(_hybrid, "batch", _IMAGE),
    "hybrid, quality alone": partial(
        _hybrid, "image", {**_IMAGE, "follow": ("bits", "grids"), "sees": ("quality",)}
    ),
    "hybrid, quality too": partial(_hybrid, "image", {**_IMAGE, "sees": ("quality", "map")}),
    "hybrid, softmax": partial(_hybrid, "image", {"distribution": "softmax"}),
    "hybrid, Gumbel": partial(_hybrid, "image", {"distribution": "gumbel", "gradient": "relaxed"}),
    "hybrid, neighbour": partial(_hybrid, "image", {"gradient": "neighbour"}),
    "hybrid, score": partial(_hybrid, "image", {"gradient": "score"}),
    "hybrid, paired": partial(_hybrid, "image", {"gradient": "paired"}),
}


def _standardized(
    method: str, study: Study, budget: float, seed: int, folder: Path | None
) -> Trained:
    """A method on images that are standardised, in all that it looks at and trains on."""
    return METHODS[method](replace(study, standardized=True), budget, seed, folder)


_UNAWARE = (*_STATIC_SEARCHES, "SDQ", "DQNet-style", "hybrid, static")

METHODS: Final[Mapping[str, partial[Trained]]] = {
    **_METHODS,
    **{f"{name}, standardised": partial(_standardized, name) for name in _UNAWARE},
}
"""By the names that tables have: from a study, a budget, a seed and a folder of states."""

OPPONENTS: Final = (*_UNAWARE, *(f"{name}, standardised" for name in _UNAWARE))
"""What the agent is compared with; the rest of the methods are forms of it."""


def recipe_of(method: str) -> str:
    """What a method is called with beside the study's settings, so that a change of it is seen."""
    own = METHODS[method]
    if own.func is _standardized:
        return f"standardised {recipe_of(*own.args)}"
    return repr(own.args)
