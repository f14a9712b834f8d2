"""What an experiment is about, as data: a network, its images, what is decided, methods, seeds."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from agents.experiments.standardized import Standardized
from dqmq_env.benchmark.plain import make
from dqmq_env.costs import Bops
from dqmq_env.data import ImageData, ImageSplit, load_fashion_mnist
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import ResultError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.condition import Condition
from dqmq_env.quality.mixture import DEFAULT_MIXTURE, Conditions, Mixture
from dqmq_env.quantization.post_training import StepSearch
from dqmq_env.task.budget import Budget
from dqmq_env.task.reward import AccuracyReward
from dqmq_env.task.task import Task
from dqmq_env.training.loop import Schedule
from dqmq_env.zoo.checkpoints import SHIPPED, checkpoint_names, load_checkpoint
from dqmq_env.zoo.train import load_small_images

STUDIES: Final = Path(__file__).parent / "studies"
NETWORKS: Final = Path(__file__).parent / "networks"
"""Float networks over images that the package does not have."""
_SEARCHED = 250
_APART = 7


@dataclass(frozen=True)
class Study:
    """Methods that are compared on one network.

    Every method trains on as many images by the same schedule and is judged on the same ``test``
    images under the same conditions. Conditions of ``held_out`` corruptions are left out of the
    mixture that is trained on, and so is every severity but those of ``severities``.

    Attributes:
        name: of the study.
        checkpoint: name of the float network that all begin from.
        images: ``fashion-mnist``, or ``folder`` for small colour images in class folders.
        bits: candidate widths.
        weight_bits: one width for all weights, where decisions are about activations alone.
        budgets: bounds on the BOPs, as fractions of those at 8 bits.
        methods: names, of :data:`~agents.experiments.methods.METHODS`.
        seeds: those that are reported.
        train_images: images that each method trains on, counting each time.
        learning_rate: peak rate of weights and steps.
        distillation: weight of the float network's answers.
        evaluations: batches that methods which evaluate assignments may look at.
        many: lowest and highest budget of methods that learn all between them in one training;
            those of ``budgets`` when left out.
        hybrid: further settings of the hybrid agent.
        held_out: corruptions that are not trained on.
        severities: those that are trained on.
        test_passes: how often each test image is looked at, each time under another condition.
        standardized: whether images are brought to the usual brightness and contrast, each by
            itself, before they enter the network
            (:class:`~agents.experiments.standardized.Standardized`); not counted in its BOPs.
        tuning: whether settings are being chosen: then a seventh of the training images is left
            out of training, and networks are judged on it in place of ``test`` images.
        checkpoints: folder of the float network; where it comes with the package when left out.
        data: folder of the images; the embedded subset when left out.

    Raises:
        ResultError: there are no budgets, methods or seeds.
    """

    name: str
    checkpoint: str
    bits: tuple[int, ...]
    budgets: tuple[float, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    images: str = "fashion-mnist"
    weight_bits: int | None = None
    train_images: int = 115_200
    learning_rate: float = 2e-3
    distillation: float = 0.0
    evaluations: int = 600
    many: tuple[float, float] | None = None
    hybrid: Mapping[str, Any] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    test_passes: int = 4
    standardized: bool = False
    tuning: bool = False
    checkpoints: str | None = None
    data: str | None = None

    def __post_init__(self) -> None:
        for name in ("budgets", "methods", "seeds"):
            if not getattr(self, name):
                raise ResultError(f"{name}: got none, must be one or more")

    @property
    def mixture(self) -> Mixture:
        """What is trained on: clean, and each corruption that is not held out, equally often."""
        return _mixture(lambda own: own.corruption not in self.held_out, self.severities)

    @property
    def budget_range(self) -> tuple[float, float]:
        """The budgets that one training of :attr:`many` learns."""
        return self.many or (min(self.budgets), max(self.budgets))

    @property
    def unseen(self) -> Mixture | None:
        """The held-out corruptions at all severities, if there are any."""
        if not self.held_out:
            return None
        return _mixture(lambda own: own.corruption in self.held_out, (1, 2, 3, 4, 5))

    @property
    def unseen_severities(self) -> Mixture | None:
        """The corruptions that are trained on, at the severities that are not."""
        others = tuple(own for own in (1, 2, 3, 4, 5) if own not in self.severities)
        if not others:
            return None
        known = dict.fromkeys(own.corruption for own in self.mixture.conditions if own.severity)
        return Mixture.uniform(Condition(name, own) for name in known for own in others)

    @property
    def judged(self) -> ImageSplit:
        """What networks are judged on."""
        return self._loaded[1].test

    def schedule(self, seed: int) -> Schedule:
        """How long and how fast every method trains."""
        return Schedule(
            images=self.train_images,
            learning_rate=self.learning_rate,
            distillation=self.distillation,
            seed=seed,
            save_every=200,
            log_every=50,
        )

    def task(self, budget: float) -> Task:
        """Accuracy alone under a hard budget."""
        return replace(Task(), reward=AccuracyReward(), budget=Budget(Bops(), budget))

    def environment(self, granularity: str, budget: float) -> BitWidthEnv:
        """One over the study's network, for methods that train it."""
        return BitWidthEnv(self.problem(granularity), self.task(budget))

    def search_environment(self, budget: float) -> BitWidthEnv:
        """One for methods that evaluate assignments after training, on a few conditions.

        A batch has 250 ``search`` images, of which there is one under each condition: clean, and
        each corruption of the mixture at its middle severity.
        """
        middle = self.severities[len(self.severities) // 2]
        known = self.mixture.conditions
        few = [own for own in known if own.severity in (0, middle)]
        network, data = self._loaded
        few_images = replace(data, search=data.search.take(_SEARCHED))
        return BitWidthEnv(self._over(network, few_images, few), self.task(budget))

    def problem(self, granularity: str) -> NetworkProblem:
        """The network and its images; ``batch``, ``image`` or ``static``."""
        network, data = self._loaded
        # nothing is asked of the network before it has been trained
        settings = {"granularity": granularity, "post_training": StepSearch()}
        return self._over(network, data, self.mixture, **settings)

    def _over(
        self, network: nn.Module, data: ImageData, conditions: Conditions, **settings: Any
    ) -> NetworkProblem:
        return NetworkProblem.over(
            network,
            data,
            bits=self.bits,
            weight_bits=self.weight_bits,
            conditions=conditions,
            **settings,
        )

    @property
    def _folder(self) -> Path:
        """Where the float network lies."""
        if self.checkpoints is not None:
            return Path(self.checkpoints)
        return NETWORKS if self.checkpoint in checkpoint_names(NETWORKS) else SHIPPED

    @cached_property
    def _loaded(self) -> tuple[nn.Module, ImageData]:
        network, card = load_checkpoint(self.checkpoint, self._folder)
        if self.images == "fashion-mnist":
            data = load_fashion_mnist(None if self.data is None else Path(self.data))
        else:
            if self.data is None:
                raise ResultError(f"data: the images of the study {self.name!r} must be given")
            data = load_small_images(Path(self.data), card.mean, card.std)
        if self.tuning:
            data = _for_tuning(data)
        if self.standardized:
            network = Standardized(network, data, self.mixture)
        return network, data


def study_names() -> list[str]:
    """Names of the studies that come with the package."""
    return sorted(path.stem for path in STUDIES.glob("*.toml"))


def load_study(name: str, /, **changed: Any) -> Study:
    """Read a study; a file that says ``based_on`` has what it leaves out from that other one.

    Args:
        name: of one that comes with the package, or path of a TOML file.
        changed: fields in place of those of the file.

    Raises:
        ResultError: there is no such study, its file is wrong, or it is based on itself.
    """
    return _load(name, changed, ())


def _load(name: str, changed: dict[str, Any], above: Sequence[str]) -> Study:
    if name in above:
        raise ResultError(f"study: {name} is based on itself")
    path = STUDIES / f"{name}.toml" if name in study_names() else Path(name)
    if not path.is_file():
        raise ResultError(f"study: got {name!r}, allowed are {', '.join(study_names())}, or a file")
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"study: {path} is no TOML file: {error}") from error
    base = fields.pop("based_on", None)
    fields |= changed
    if base:
        return _load(base, fields, (*above, name))
    return make(Study, fields, f"study {path.stem}")


def _for_tuning(data: ImageData) -> ImageData:
    """Every seventh training image is taken from ``train`` and stands for ``test``.

    Seven, since classes may take turns by ten. ``search`` has too few images for it: two networks
    that disagree about a tenth of 2,000 images differ by 0.7 points through the choice of these
    images alone.
    """
    numbers = torch.arange(len(data.train))
    apart = numbers % _APART == 0
    return replace(
        data, train=data.train.select(numbers[~apart]), test=data.train.select(numbers[apart])
    )


def _mixture(chosen: Any, severities: Sequence[int]) -> Mixture:
    """The default mixture's conditions of some kinds; every corruption equally often."""
    own = [
        condition
        for condition in DEFAULT_MIXTURE.conditions
        if chosen(condition) and condition.severity in (0, *severities)
    ]
    count = {c.corruption: sum(c.corruption == o.corruption for o in own) for c in own}
    weights: dict[Condition, float] = {c: 1 / count[c.corruption] for c in own}
    return Mixture(weights)
