"""Training state in one file: tensors as safetensors, everything else as JSON in its header.

Nothing is pickled, so a state file from anywhere can be read without running code from it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from dqmq_env.errors import CheckpointError
from dqmq_env.files import atomic_write_bytes

SCHEMA = "dqmq-state/1"

_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
    SafetensorError,
)

_TENSOR, _PAIRS, _TUPLE = "__tensor__", "__pairs__", "__tuple__"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a tree of dicts, lists, tuples, tensors and JSON scalars, whole or not at all.

    Args:
        path: the file; it is replaced in one step.
        state: the tree, e.g. ``{"step": 3, "network": network.state_dict(), ...}``.

    Raises:
        TypeError: a leaf is neither a tensor nor a JSON scalar.
    """
    tensors: dict[str, torch.Tensor] = {}
    payload = json.dumps({"schema": SCHEMA, "tree": _encode(state, tensors, "")})
    body = save({name: _own_copy(tensor) for name, tensor in tensors.items()})
    digest = hashlib.sha256(payload.encode() + body).hexdigest()
    header = json.dumps({"sha256": digest, "length": len(payload.encode())}) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, header.encode() + payload.encode() + body)


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or not a state file of this schema.
    """
    if not path.is_file():
        raise CheckpointError(f"path: no state file at {path}")
    data = path.read_bytes()
    try:
        line, rest = data.split(b"\n", 1)
        header = json.loads(line)
        if hashlib.sha256(rest).hexdigest() != header["sha256"]:
            raise CheckpointError(f"path: {path} is damaged: its checksum does not match")
        length = int(header["length"])
        payload = json.loads(rest[:length])
        if payload["schema"] != SCHEMA:
            raise CheckpointError(
                f"path: {path} has schema {payload['schema']!r}, this version reads {SCHEMA!r}"
            )
        tree = _decode(payload["tree"], load(rest[length:]))
    except CheckpointError:
        raise
    except _UNREADABLE as error:
        raise CheckpointError(f"path: {path} is damaged or no {SCHEMA} file: {error}") from error
    assert isinstance(tree, dict)
    return tree


def _own_copy(tensor: torch.Tensor) -> torch.Tensor:
    """On the CPU, in memory of its own, as safetensors asks for."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _encode(node: Any, tensors: dict[str, torch.Tensor], path: str) -> Any:
    if isinstance(node, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = node
        return {_TENSOR: name}
    if isinstance(node, dict):
        pairs = [
            [_encode(key, tensors, path), _encode(value, tensors, f"{path}/{key}")]
            for key, value in node.items()
        ]
        return {_PAIRS: pairs}
    if isinstance(node, list | tuple):
        items = [_encode(value, tensors, f"{path}/{i}") for i, value in enumerate(node)]
        return {_TUPLE: items} if isinstance(node, tuple) else items
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(f"state: {path} is a {type(node).__name__}, which a state file cannot hold")


def _decode(node: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, list):
        return [_decode(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    if _TENSOR in node:
        return tensors[node[_TENSOR]]
    if _TUPLE in node:
        return tuple(_decode(item, tensors) for item in node[_TUPLE])
    return {_decode(key, tensors): _decode(value, tensors) for key, value in node[_PAIRS]}
