"""What came of one run of an experiment, and the files that hold it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from agents.experiments.judge import Row
from dqmq_env.errors import ResultError
from dqmq_env.files import atomic_write_text

SCHEMA: Final = "dqmq-experiment/2"


@dataclass(frozen=True)
class Run:
    """One method at one budget by one seed.

    Attributes:
        method: name.
        budget: bound on the BOPs, as a fraction of those at 8 bits.
        seed: of everything drawn.
    """

    method: str
    budget: float
    seed: int

    @property
    def slug(self) -> str:
        """A name for files."""
        words = "".join(c if c.isalnum() else "-" for c in self.method.lower())
        return f"{self.budget:g}-{self.seed:03d}-{words}"


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Attributes:
        run: which.
        recipe: what the method was; see :func:`~agents.experiments.methods.recipe_of`.
        rows: name of a set of ``test`` images to its rows; see :mod:`agents.experiments.judge`.
        assignment: layer to its two widths, where all images have the same.
        images_evaluated: see :class:`~agents.experiments.methods.Trained`.
        images_trained: see there.
        seconds: of search and training, by the wall clock.
        machine: processor and versions of packages.
    """

    run: Run
    recipe: str
    rows: dict[str, list[Row]]
    assignment: dict[str, list[int]] | None
    images_evaluated: int
    images_trained: int
    seconds: float
    machine: dict[str, str]

    def accuracy(self, name: str) -> float:
        """Over all images of a set, in [0, 1]."""
        rows = self.rows[name]
        return sum(row.correct for row in rows) / sum(row.images for row in rows)

    def cost(self, name: str) -> float:
        """Mean BOPs over all images of a set, as a fraction of those at 8 bits."""
        rows = self.rows[name]
        return sum(row.cost * row.images for row in rows) / sum(row.images for row in rows)

    def save(self, folder: Path) -> None:
        """Write JSON, whole or not at all."""
        text = json.dumps({"schema": SCHEMA, **asdict(self)}, separators=(",", ":"))
        atomic_write_text(folder / f"{self.run.slug}.json", text + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            ResultError: the file is missing, damaged or of another schema.
        """
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if data.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            rows = {
                name: [
                    Row(**{**row, "bits": tuple(row["bits"]), "spread": tuple(row["spread"])})
                    for row in own
                ]
                for name, own in data["rows"].items()
            }
            return cls(**{**data, "run": Run(**data["run"]), "rows": rows})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResultError(f"result: {path} is no {SCHEMA} file: {error!r}") from error


def load_results(folder: Path) -> list[RunResult]:
    """All results in a folder, by budget, seed and method."""
    return [RunResult.load(path) for path in sorted(folder.glob("*.json"))]
