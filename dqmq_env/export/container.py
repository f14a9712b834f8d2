"""A header and named tensors in one safetensors file, under checksums.

The metadata of the file has one entry, ``dqmq``: JSON with ``schema``, ``header`` and two SHA-256
checksums, of the bytes of the tensors and of the header together with the table of tensors (names,
types, shapes, places). Nothing of a file is used before both have been found right.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dqmq_env.errors import ExportError

SCHEMA: Final = "dqmq-packed/1"
_KEY, _METADATA = "dqmq", "__metadata__"
_LENGTH = 8


def to_bytes(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a file.

    Args:
        header: as JSON can hold it.
        tensors: on the CPU, by name.

    Raises:
        ExportError: the header is not JSON, or a tensor of a kind that safetensors does not know.
    """
    own = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        parts, payload = _split(save(own))
        envelope = {
            "schema": SCHEMA,
            "sha256": {"header": _digest(header, parts), "payload": _sha256(payload)},
            "header": header,
        }
        text = json.dumps(envelope, allow_nan=False, separators=(",", ":"))
        return save(own, {_KEY: text})
    except (TypeError, ValueError, KeyError, SafetensorError) as error:
        raise ExportError(f"network: it cannot be written: {error}") from error


def from_bytes(data: bytes, source: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a file's content.

    Args:
        data: the whole of it.
        source: names it in messages.

    Raises:
        ExportError: it is damaged, foreign, or of another schema.
    """
    try:
        parts, payload = _split(data)
        envelope = json.loads(parts.pop(_METADATA, {}).get(_KEY, "null"))
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ExportError(f"path: {source} is damaged or no {SCHEMA} file: {error}") from error
    if not isinstance(envelope, dict) or "schema" not in envelope:
        raise ExportError(f"path: {source} is a safetensors file, but no {SCHEMA} file")
    if envelope["schema"] != SCHEMA:
        raise ExportError(
            f"path: {source} has the schema {envelope['schema']!r}, this version reads {SCHEMA!r}"
        )
    header, sums = envelope.get("header"), envelope.get("sha256")
    if not isinstance(header, dict) or not isinstance(sums, dict):
        raise ExportError(f"path: {source} is damaged: its header is incomplete")
    if sums.get("header") != _digest(header, parts):
        raise ExportError(f"path: {source} is damaged: the checksum of its header does not match")
    if sums.get("payload") != _sha256(payload):
        raise ExportError(f"path: {source} is damaged: the checksum of its payload does not match")
    try:
        return header, load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ExportError(f"path: {source} is damaged: {error}") from error


def header_bytes(data: bytes) -> int:
    """Bytes of a file's content before its payload: length, header, padding."""
    return len(data) - len(_split(data)[1])


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The table of tensors, with the metadata, and the payload.

    Raises:
        ValueError: the bytes do not begin as those of a safetensors file do.
    """
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    if len(data) < _LENGTH or end > len(data):
        raise ValueError("it ends before its header does")
    parts = json.loads(data[_LENGTH:end])
    if not isinstance(parts, dict):
        raise ValueError("its header is no table")
    return parts, data[end:]


def _digest(header: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Of the values, however they are laid out as text."""
    text = json.dumps({"header": header, "tensors": table}, sort_keys=True)
    return _sha256(text.encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
