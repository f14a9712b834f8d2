"""What a deployed network reaches under each condition, with intervals."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from scipy.special import ndtri
from torch import Tensor

from dqmq_env.errors import CheckpointError
from dqmq_env.evaluation.deployed import Deployed
from dqmq_env.files import atomic_write_text
from dqmq_env.quality.condition import Condition
from dqmq_env.quality.conditioned import ConditionedImages

SCHEMA = "dqmq-evaluation/1"


@dataclass(frozen=True)
class ConditionResult:
    """One condition's row.

    Attributes:
        condition: its text.
        images: number of images.
        correct: number of images classified correctly.
        cost: mean over the images, as a fraction of the BOPs at 8 bits.
        bits: mean bits of each layer in forward order.
    """

    condition: str
    images: int
    correct: int
    cost: float
    bits: list[float]

    @property
    def accuracy(self) -> float:
        """Top-1, in [0, 1]."""
        return self.correct / self.images


@dataclass(frozen=True)
class Evaluation:
    """A network's rows.

    Attributes:
        name: of the network, as tables show it.
        layers: names of the layers in forward order.
        rows: one for each condition.
        interval: 95% interval of the mean accuracy over the conditions. It speaks of the choice of
            images alone, which all conditions share, not of the spread between training runs.
    """

    name: str
    layers: list[str]
    rows: list[ConditionResult]
    interval: tuple[float, float]

    @property
    def accuracy(self) -> float:
        """Mean over the conditions, in [0, 1]."""
        return sum(row.accuracy for row in self.rows) / len(self.rows)

    @property
    def cost(self) -> float:
        """Mean over the conditions, as a fraction of the BOPs at 8 bits."""
        return sum(row.cost for row in self.rows) / len(self.rows)

    def save(self, path: Path) -> None:
        """Write JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(path, json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: the file is missing, damaged or of another schema.
        """
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["schema"] != SCHEMA:
                raise ValueError(f"schema {fields['schema']!r}")
            rows = [ConditionResult(**row) for row in fields["rows"]]
            low, high = fields["interval"]
            return cls(fields["name"], fields["layers"], rows, (float(low), float(high)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"path: {path} is no {SCHEMA} file: {error}") from error


def evaluate(
    name: str,
    layers: list[str],
    network: Deployed,
    images: ConditionedImages,
    conditions: Iterable[Condition],
    batch: int = 250,
    done: Callable[[], None] | None = None,
) -> Evaluation:
    """Run a network over a split under each condition.

    Args:
        name: of the network.
        layers: names of its layers in forward order.
        network: what is judged.
        images: the split.
        conditions: what the images go through.
        batch: images in a forward pass.
        done: called after each condition.
    """
    rows = []
    labels = images.split.labels
    right = torch.zeros(len(labels), dtype=torch.float64)
    for condition in conditions:
        predictions = [network(part) for part in images.under(condition).split(batch)]
        logits = torch.cat([prediction.logits for prediction in predictions])
        cost = torch.cat([prediction.cost for prediction in predictions])
        bits = torch.cat([prediction.bits for prediction in predictions]).double()
        correct = logits.argmax(1) == labels
        right += correct
        mean_bits = [round(value, 4) for value in bits.mean(0).tolist()]
        rows.append(
            ConditionResult(
                str(condition),
                len(labels),
                int(correct.sum()),
                float(cost.double().mean()),
                mean_bits,
            )
        )
        if done is not None:
            done()
    return Evaluation(name, layers, rows, _interval(right / len(rows)))


def _interval(values: Tensor) -> tuple[float, float]:
    """95% normal interval of the mean of one number for each image."""
    centre = float(values.mean())
    spread = float(ndtri(0.975)) * float(values.std()) / len(values) ** 0.5
    return centre - spread, centre + spread
