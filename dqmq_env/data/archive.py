"""The archive of images that ships inside the package: one xz file and its JSON card.

The xz file holds the raw uint8 bytes of all images, split after split in the order of the card,
followed by all labels, one byte each, in the same order. The card says how to read them and holds
the SHA-256 of the xz file.
"""

import hashlib
import json
import lzma
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import torch

from dqmq_env.data.split import ImageSplit
from dqmq_env.errors import DataError
from dqmq_env.files import atomic_write_bytes, atomic_write_text

SCHEMA_VERSION = 1


def write_archive(
    stem: str | Path, splits: Mapping[str, ImageSplit], description: Mapping[str, str]
) -> None:
    """Write `stem`.xz and `stem`.json; equal arguments give equal bytes (of one liblzma).

    Args:
        stem: Path without its ending; the folder must exist.
        splits: Splits by name, all with the same image shape, labels 0 to 255.
        description: Free text for the card, such as source and licence.

    Raises:
        DataError: The splits differ in image shape, there are none, or a label exceeds 255.
        OSError: The files cannot be written.
    """
    shapes = {tuple(split.images.shape[1:]) for split in splits.values()}
    if len(shapes) != 1:
        raise DataError(f"splits: got image shapes {sorted(shapes)}, must be exactly one")
    labels = torch.cat([split.labels for split in splits.values()])
    if int(labels.max()) > 255:
        raise DataError(f"splits: got label {int(labels.max())}, must be 0 to 255")
    raw = b"".join(split.images.numpy().tobytes() for split in splits.values())
    raw += labels.to(torch.uint8).numpy().tobytes()
    packed = lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)
    card = {
        "schema_version": SCHEMA_VERSION,
        **description,
        "sha256": hashlib.sha256(packed).hexdigest(),
        "sha256_unpacked": hashlib.sha256(raw).hexdigest(),
        "layout": "all images as uint8 (N, C, H, W) in the order of the splits, then all labels",
        "image_shape": list(shapes.pop()),
        "splits": {name: len(split) for name, split in splits.items()},
    }
    atomic_write_bytes(_with_ending(stem, ".xz"), packed)
    atomic_write_text(_with_ending(stem, ".json"), json.dumps(card, indent=2) + "\n")


def read_archive(stem: str | Path, counts: Mapping[str, int]) -> dict[str, ImageSplit]:
    """Read `stem`.xz as its card `stem`.json describes it.

    Args:
        stem: Path without its ending.
        counts: The splits that it must hold, in order, with the number of images of each.

    Returns:
        The splits by name, in the order of `counts`; their tensors share one buffer, which belongs
        to the caller.

    Raises:
        DataError: A file is missing, the card is damaged, of another schema or of other splits, or
            the xz file is not the one whose SHA-256 the card holds.
    """
    card_path, packed_path = _with_ending(stem, ".json"), _with_ending(stem, ".xz")
    card = _parse_card(card_path, _read(card_path))
    if list(card.counts.items()) != list(counts.items()):
        raise DataError(f"{card_path}: got splits {card.counts}, must be {dict(counts)}")
    packed = _read(packed_path)
    digest = hashlib.sha256(packed).hexdigest()
    if digest != card.sha256:
        raise DataError(
            f"{packed_path}: SHA-256 is {digest}, must be {card.sha256}; the file is damaged or "
            "from another version, reinstall the package"
        )
    raw = bytearray(lzma.decompress(packed))
    total = sum(counts.values())
    if len(raw) != total * (math.prod(card.image_shape) + 1):
        raise DataError(f"{card_path}: image_shape {card.image_shape} does not fit the archive")
    values = torch.frombuffer(raw, dtype=torch.uint8)
    images, labels = values[:-total].view(total, *card.image_shape), values[-total:].long()
    ends = list(accumulate(counts.values(), initial=0))
    return {
        name: ImageSplit(images[start:end], labels[start:end])
        for name, (start, end) in zip(counts, pairwise(ends), strict=True)
    }


@dataclass(frozen=True)
class _Card:
    sha256: str
    image_shape: tuple[int, int, int]
    counts: dict[str, int]


def _parse_card(path: Path, content: bytes) -> _Card:
    try:
        card = json.loads(content)
    except ValueError as error:
        raise DataError(f"{path}: damaged card ({error})") from error
    if not isinstance(card, dict) or card.get("schema_version") != SCHEMA_VERSION:
        raise DataError(f"{path}: not a card of schema version {SCHEMA_VERSION}")
    match card:
        case {
            "sha256": str(sha256),
            "image_shape": [int(channels), int(height), int(width)],
            "splits": dict(counts),
        } if min(channels, height, width) > 0:
            return _Card(sha256, (channels, height, width), counts)
    raise DataError(f"{path}: damaged card, must hold sha256, image_shape and splits")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _with_ending(stem: str | Path, ending: str) -> Path:
    return Path(f"{stem}{ending}")
