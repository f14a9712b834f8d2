"""A table of what every assignment of a network gives; free of torch.

A table is a safetensors file of arrays and, beside it, a JSON card that says how it was made. With
C conditions, D decided layers of K candidates each and N = K ** D assignments, the bits of the last
layer varying fastest:

| array | shape | meaning |
|---|---|---|
| ``<split>_hits`` | (C, N), uint16 | images of the split that are classified correctly |
| ``<split>_loss`` | (C, N), float32 | mean cross-entropy in nats |
| ``activation_<d>`` | (C, K ** d, 4), float32 | statistics of what decided layer d receives |
| ``quality`` | (C, 6), float32 | mean quality descriptor of the images |
| ``thumbnails`` | (C, n, H, W, channels), uint8 | the first images |
| ``weight_error`` | (D, K), float64 | relative error of a layer's weights at each candidate |
| ``front`` | (F,), int32 | assignments on fronts of accuracy or loss against a cost |
| ``<split>_front`` | (C, F, bytes), uint8 | which images these classify correctly, packed bits |
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from dqmq_env.errors import TableError
from dqmq_env.files import atomic_write_bytes, atomic_write_text
from dqmq_env.problem.protocol import Outcome
from dqmq_env.quantization.spec import LayerSpec

SCHEMA = "dqmq-table/1"
SHIPPED = Path(__file__).parent / "tables"
SPLITS = ("search", "test")


@dataclass(frozen=True)
class TableCard:
    """How a table was made, and what its rows and columns are.

    Attributes:
        name: of the table, e.g. ``resnet8-fashion-mnist``.
        checkpoint: name of the float checkpoint.
        checkpoint_sha256: of its weights.
        layers: of the network in forward order, see
            :class:`~dqmq_env.quantization.spec.LayerSpec`.
        candidates: candidate bits of each layer.
        conditions: in the order of the arrays.
        images: number of images of each split.
        recipe: every setting of the script that made it.
        versions: of Python packages, and the processor's name.
        sha256: of the arrays' file.
    """

    name: str
    checkpoint: str
    checkpoint_sha256: str
    layers: list[dict[str, Any]]
    candidates: list[list[int]]
    conditions: list[str]
    images: dict[str, int]
    recipe: dict[str, Any]
    versions: dict[str, str]
    sha256: str = ""

    @property
    def specs(self) -> tuple[LayerSpec, ...]:
        """The layers as cost models see them."""
        return tuple(LayerSpec.from_dict(layer) for layer in self.layers)


@dataclass(frozen=True, eq=False)
class Table:
    """A card and its arrays; see the module."""

    card: TableCard
    arrays: Mapping[str, NDArray[Any]]

    def outcome(self, split: str, rows: Any, places: Any = slice(None)) -> Outcome:
        """Accuracy and loss of some assignments.

        Args:
            split: ``search`` or ``test``.
            rows: of conditions: an index, or as many as there are places.
            places: of assignments; all when left out.
        """
        hits, loss = (self.arrays[f"{split}_{kind}"][rows, places] for kind in ("hits", "loss"))
        return Outcome(hits / np.float64(self.card.images[split]), np.asarray(loss, np.float64))


def save_table(folder: Path, table: Table) -> Table:
    """Write ``<name>.safetensors``, then ``<name>.json``; return the table with its checksum."""
    data = save({name: np.ascontiguousarray(array) for name, array in table.arrays.items()})
    card = TableCard(**{**asdict(table.card), "sha256": hashlib.sha256(data).hexdigest()})
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(folder / f"{card.name}.safetensors", data)
    text = json.dumps({"schema": SCHEMA, **asdict(card)}, indent=1) + "\n"
    atomic_write_text(folder / f"{card.name}.json", text)
    return Table(card, table.arrays)


def table_names(folder: Path = SHIPPED) -> list[str]:
    """Names of the tables in a folder; by default those shipped with the package."""
    return sorted(path.stem for path in folder.glob("*.json"))


def load_table(name: str, folder: Path = SHIPPED) -> Table:
    """Read a table.

    Raises:
        TableError: there is no such table, or it is damaged or of another schema.
    """
    card = _load_card(name, folder)
    path = folder / f"{name}.safetensors"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TableError(f"name: the arrays of {name!r} cannot be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise TableError(f"{path}: damaged: its checksum is not the one on the card")
    try:
        return Table(card, load(data))
    except SafetensorError as error:
        raise TableError(f"{path}: no safetensors file: {error}") from error


def _load_card(name: str, folder: Path) -> TableCard:
    path = folder / f"{name}.json"
    if not path.is_file():
        raise TableError(f"name: no table {name!r} in {folder}, there are {table_names(folder)}")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        schema = fields.pop("schema", None)
        if schema == SCHEMA:
            return TableCard(**fields)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TableError(f"{path}: damaged card: {error}") from error
    raise TableError(f"{path}: schema is {schema!r}, this version reads {SCHEMA!r}")
