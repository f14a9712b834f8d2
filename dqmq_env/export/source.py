"""What an export is made of: a network, its bits, and what is known of how both were made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym

import dqmq_env  # noqa: F401 - registers the environments
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import CheckpointError, ExportError
from dqmq_env.evaluation.report import Evaluation
from dqmq_env.export.collect import Bits
from dqmq_env.export.dynamic import Dynamic
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.quantization.scheme import Scheme
from dqmq_env.quantization.scheme_names import SCHEMES
from dqmq_env.search.rule import Rule
from dqmq_env.training.state import load_state
from dqmq_env.zoo.checkpoints import load_card

_STATE = "state.dqmq"


@dataclass(frozen=True)
class Source:
    """A network that is to be exported.

    Attributes:
        problem: gives the float network, images, normalisation and classes.
        network: quantised: the problem's own, or one that was trained.
        bits: those that it is to run at; all that the policy chooses from where there is one.
        trained: whether weights were trained at these bits.
        dynamic: the policy, where one decides about bits.
        architecture: see :class:`~dqmq_env.export.contents.About`.
        recipe: how it was made; names to values.
        command: that makes the export again.
        evaluations: what was measured of it.
    """

    problem: NetworkProblem
    network: QuantizedNetwork
    bits: Bits
    trained: bool = False
    dynamic: Dynamic | None = None
    architecture: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    evaluations: Sequence[Evaluation] = ()

    @property
    def settled(self) -> BitAssignment | Rule:
        """The bits, known beforehand.

        Raises:
            ExportError: a policy decides about them.
        """
        if isinstance(self.bits, BitAssignment | Rule):
            return self.bits
        raise ExportError("--to: got bits that a policy gives, allowed are packed, onnx and onnx21")


@dataclass(frozen=True)
class Origin:
    """The problem of an environment, and where its network is from.

    Attributes:
        problem: over a live network.
        architecture: see :class:`~dqmq_env.export.contents.About`.
        recipe: of the float network and of its quantisation.
    """

    problem: NetworkProblem
    architecture: Mapping[str, Any]
    recipe: Mapping[str, Any]


def origin_of(name: str, settings: Mapping[str, Any]) -> Origin:
    """Make an environment and take its problem.

    Args:
        name: id of the environment.
        settings: keyword arguments that it is made with.

    Raises:
        ExportError: the environment has no live network.
        DQMQError: a setting is wrong.
    """
    env = gym.make(name, **settings)
    own = env.unwrapped
    problem = own.problem if isinstance(own, BitWidthEnv) else None
    if not isinstance(problem, NetworkProblem):
        raise ExportError(f"--env: {name} has no network, allowed are ids over a live network")
    known = {} if env.spec is None else env.spec.kwargs
    recipe = {
        "quantisation": f"after training ({known.get('post_training', 'reconstruction')}), on "
        f"{len(problem.calibration)} images of mixed quality",
    }
    if "checkpoint" in known:
        card = load_card(known["checkpoint"])
        float_recipe = ", ".join(f"{key} {value}" for key, value in card.recipe.items())
        made = {"float network": f"{card.name} of the zoo ({float_recipe})"}
        return Origin(problem, card.architecture, made | recipe)
    if "architecture" in known:
        architecture = {"name": f"torchvision/{known['architecture']}"}
        weights = known.get("weights", "IMAGENET1K_V1")
        return Origin(problem, architecture, {"float network": f"weights {weights}"} | recipe)
    if "network" in known:
        made = {"float network": f"{known['network']}, weights {known.get('weights', 'its own')}"}
        return Origin(problem, {"name": str(known["network"])}, made | recipe)
    return Origin(problem, {}, recipe)


def has_trained(folder: Path) -> bool:
    """Whether a run has trained weights, rather than looked for bits."""
    return (folder / _STATE).is_file()


def trained_in(folder: Path, origin: Origin) -> Source:
    """The network that :func:`~dqmq_env.training.fine_tune.fine_tune` has trained in a folder.

    Args:
        folder: of its run.
        origin: the problem that it was trained on.

    Raises:
        CheckpointError: there is no state, or it is damaged, unfinished or of another problem.
        ExportError: it is a run of something else than :func:`fine_tune`.
    """
    state = load_state(folder / _STATE)
    try:
        identity = state["identity"]
        objective, schedule = identity["objective"], identity["schedule"]
        scheme = _scheme(objective["scheme"])
        bits = _bits(objective)
        images, batch, step = schedule["images"], schedule["batch"], state["step"]
    except (KeyError, TypeError) as error:
        raise ExportError(f"--run: {folder} is no run that trains at settled bits") from error
    if step < -(-images // batch):
        raise CheckpointError(f"--run: {folder} has done {step} steps of {-(-images // batch)}")
    network = origin.problem.trainable(scheme)
    try:
        network.load_state_dict(state["network"])
    except RuntimeError as error:
        raise CheckpointError(
            f"--run: {folder} was trained with other layers or candidate bits than --env and "
            "--settings say"
        ) from error
    recipe = {
        **origin.recipe,
        "quantisation": f"trained with {objective['scheme']} on {images} images of mixed quality",
        **{key.replace("_", " "): value for key, value in schedule.items()},
    }
    return Source(
        origin.problem,
        network.eval(),
        bits,
        trained=True,
        architecture=origin.architecture,
        recipe=recipe,
    )


def _scheme(text: str) -> Scheme:
    """The scheme of a ``repr``; what it may differ in counts in training alone."""
    known = {type(scheme).__name__: scheme for scheme in SCHEMES.values()}
    return known[text.partition("(")[0]]


def _bits(objective: Mapping[str, Any]) -> BitAssignment | Rule:
    if "rule" in objective:
        return Rule.from_dict(objective["rule"])
    return BitAssignment.from_json(objective["assignment"])
