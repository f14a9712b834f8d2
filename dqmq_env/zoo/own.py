"""Networks that a user brings: a function that makes one, and a file of its weights."""

import sys
from collections.abc import Mapping
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dqmq_env.errors import CheckpointError, NetworkError

_LONGEST = 200


def load_own(name: str, weights: str | Path | None = None) -> nn.Module:
    """A user's network with trained weights, in eval mode.

    Args:
        name: see :func:`make_network`.
        weights: file with its state dict, see :func:`read_state`; may be left out where the
            function loads them itself.

    Raises:
        NetworkError: there is no such function, or it gives no network.
        CheckpointError: the weights cannot be read or do not fit.
    """
    network = make_network(name)
    if weights is not None:
        fill(network, read_state(Path(weights)), str(weights), name)
    return network


def make_network(name: str) -> nn.Module:
    """The network that ``module:function`` makes, in eval mode.

    Args:
        name: module and function, such as ``torchvision.models:resnet18``; modules in the working
            folder are found, and the function is called without arguments.

    Raises:
        NetworkError: there is no such function, it fails, or it gives something else.
    """
    module, _, function = name.partition(":")
    sys.path.insert(0, "")
    invalidate_caches()  # the file may be younger than the last look at the folder
    try:
        made = getattr(import_module(module), function)()
    except Exception as error:  # the user's code may raise anything
        raise NetworkError(
            f"network: got {name!r}, allowed is module:function of a function without arguments "
            f"that gives an nn.Module, but {_first_line(error)}"
        ) from error
    finally:
        sys.path.remove("")
    if not isinstance(made, nn.Module):
        raise NetworkError(f"network: {name} gives {type(made).__name__}, allowed is an nn.Module")
    return made.eval()


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file: ``.safetensors``, or what ``torch.save`` wrote.

    It may stand under ``state_dict`` or ``model``, and its names may begin with ``module.``. No
    code of the file is run.

    Raises:
        CheckpointError: there is no such file, or it is damaged or holds something else.
    """
    if not path.is_file():
        raise CheckpointError(f"weights: there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            loaded = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on damaged files the readers raise whatever the bytes lead them to
        raise CheckpointError(
            f"weights: {path} is damaged or holds more than tensors, which is not read; write it "
            "anew with torch.save(network.state_dict(), path)"
        ) from error
    return state_of(loaded, str(path))


def state_of(loaded: Any, source: str) -> dict[str, Tensor]:
    """The state dict in what was read, see :func:`read_state`.

    Args:
        loaded: what a reader gave.
        source: where it is from, for messages.

    Raises:
        CheckpointError: it is none.
    """
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    ):
        raise CheckpointError(f"weights: {source} holds no state dict, names with their tensors")
    return {name.removeprefix("module."): value for name, value in loaded.items()}


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str, name: str) -> None:
    """Load a state dict.

    Args:
        network: changed in place.
        state: name to tensor, all that the network has and nothing else.
        source: where the state is from, for messages.
        name: of the network, for messages.

    Raises:
        CheckpointError: it does not fit.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        lines = str(error).splitlines()
        first = lines[min(1, len(lines) - 1)].strip()
        reason = first if len(first) <= _LONGEST else f"{first[:_LONGEST]}..."
        raise CheckpointError(f"weights: {source} does not fit {name}: {reason}") from error


def _first_line(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {text[:_LONGEST]}"
