"""What a folder of ONNX graphs holds, as JSON beside them."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from dqmq_env.errors import ExportError
from dqmq_env.export.onnx_names import FOLDER_SCHEMA, MANIFEST

_UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
_FILE_NAME = re.compile(r"[\w-]+\.onnx")


@dataclass(frozen=True)
class Entry:
    """A file of the folder.

    Attributes:
        file: its name.
        sha256: of its content.
    """

    file: str
    sha256: str

    @classmethod
    def of(cls, name: str, data: bytes) -> Self:
        """The entry of a new file, which has part of the checksum in its name."""
        digest = hashlib.sha256(data).hexdigest()
        return cls(f"{name}-{digest[:8]}.onnx", digest)

    def read(self, folder: Path) -> bytes:
        """The content, which is the one that was written.

        Raises:
            ExportError: the file is missing or damaged.
        """
        path = folder / self.file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ExportError(f"path: cannot read {path}: {error}") from error
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise ExportError(f"path: {path} is damaged: its checksum is not that of {MANIFEST}")
        return data


@dataclass(frozen=True)
class Manifest:
    """The graphs of a folder.

    Attributes:
        graphs: one for each assignment, which is known by its place.
        rule: condition to the place of its assignment; empty where nothing is said of conditions.
        controller: the graph that tells the place for each image, if there is one.
        controller_bops: what that takes for one image, as a fraction of the network's at 8 bits.
    """

    graphs: tuple[Entry, ...]
    rule: Mapping[str, int]
    controller: Entry | None = None
    controller_bops: float = 0.0

    @property
    def entries(self) -> set[Entry]:
        """All files."""
        return {*self.graphs, *(() if self.controller is None else (self.controller,))}

    def to_json(self) -> str:
        """What :meth:`load` reads."""
        return json.dumps({"schema": FOLDER_SCHEMA, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the manifest of a folder.

        Raises:
            ExportError: it is missing, damaged or of another schema.
        """
        path = folder / MANIFEST
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            schema, own = fields.pop("schema"), fields.pop("controller")
            if schema != FOLDER_SCHEMA:
                raise ExportError(
                    f"path: {path} has schema {schema!r}, this version reads {FOLDER_SCHEMA!r}"
                )
            graphs = tuple(Entry(**entry) for entry in fields.pop("graphs"))
            found = cls(graphs, controller=None if own is None else Entry(**own), **fields)
            found._check()
        except ExportError:
            raise
        except _UNREADABLE as error:
            raise ExportError(f"path: {path} is damaged or no manifest: {error!r}") from error
        return found

    def _check(self) -> None:
        if not all(_FILE_NAME.fullmatch(entry.file) for entry in self.entries):
            raise ValueError("these are no names of graphs in the folder")
        places = range(len(self.graphs))
        known = all(type(place) is int and place in places for place in self.rule.values())
        if not places or not known or not self.controller_bops >= 0:
            raise ValueError("places without a graph")
