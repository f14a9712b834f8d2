"""Checkpoints: a safetensors file of float weights and, beside it, a JSON card.

The card says what the network is, how it was trained, how accurate it is under each condition,
and the checksum of the weights. Shipped checkpoints are listed by :func:`checkpoint_names`.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from dqmq_env.errors import CheckpointError
from dqmq_env.files import atomic_write_bytes, atomic_write_text
from dqmq_env.zoo.architectures import build

SCHEMA = "dqmq-checkpoint/1"
SHIPPED = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True)
class Card:
    """What is known of a checkpoint.

    Attributes:
        name: e.g. ``resnet20-fashion-mnist``.
        architecture: arguments of :func:`~dqmq_env.zoo.architectures.build`, ``name`` among them.
        dataset: name of the data set whose normalisation and classes the network has.
        mean: per channel, of images on the [0, 1] scale.
        std: per channel, of images on the [0, 1] scale.
        recipe: every setting of the training script.
        accuracy: condition to accuracy on the full test split, in [0, 1].
        sha256: of the safetensors file.
        versions: of Python packages at training time.
    """

    name: str
    architecture: dict[str, Any]
    dataset: str
    mean: list[float]
    std: list[float]
    recipe: dict[str, Any]
    accuracy: dict[str, float]
    sha256: str
    versions: dict[str, str]


def save_checkpoint(folder: Path, card: Card, network: nn.Module) -> Card:
    """Write ``<name>.safetensors``, then ``<name>.json``; return the card with its checksum."""
    weights = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }
    data = save(weights)
    card = Card(**{**asdict(card), "sha256": hashlib.sha256(data).hexdigest()})
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(folder / f"{card.name}.safetensors", data)
    text = json.dumps({"schema": SCHEMA, **asdict(card)}, indent=2) + "\n"
    atomic_write_text(folder / f"{card.name}.json", text)
    return card


def checkpoint_names(folder: Path = SHIPPED) -> list[str]:
    """Names of the checkpoints in a folder; by default those shipped with the package."""
    return sorted(path.stem for path in folder.glob("*.json"))


def load_card(name: str, folder: Path = SHIPPED) -> Card:
    """Read the card of a checkpoint.

    Raises:
        CheckpointError: there is no such checkpoint, or its card is damaged or foreign.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        raise CheckpointError(
            f"name: no checkpoint {name!r} in {folder}, there are {checkpoint_names(folder)}"
        )
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        schema = fields.pop("schema", None)
        if schema != SCHEMA:
            raise CheckpointError(f"{path}: schema is {schema!r}, this version reads {SCHEMA!r}")
        return Card(**fields)
    except CheckpointError:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged card: {error}") from error


def load_checkpoint(name: str, folder: Path = SHIPPED) -> tuple[nn.Module, Card]:
    """The trained float network, in eval mode, and its card.

    Raises:
        CheckpointError: a file is missing, its checksum differs, or the weights do not fit.
    """
    card = load_card(name, folder)
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise CheckpointError(f"name: the weights of {name!r} are missing: {path}")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise CheckpointError(f"{path}: damaged: its checksum is not the one on the card")
    try:
        network = build(**card.architecture)
        network.load_state_dict(load(data))
    except (TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the weights do not fit the card: {error}") from error
    return network.eval(), card
