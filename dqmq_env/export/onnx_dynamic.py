"""A network with its policy in one ONNX file, at work on the CPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from dqmq_env.errors import ExportError, SettingError
from dqmq_env.evaluation.deployed import Prediction
from dqmq_env.export.onnx_names import BITS, BUDGET, COST, DYNAMIC_SCHEMA, LOGITS
from dqmq_env.export.onnx_runner import OnnxGraph, content_of, metadata_of


class OnnxDynamic:
    """A network whose bits a policy inside the graph gives.

    Args:
        data: content of a file of :func:`~dqmq_env.export.onnx_exporter.dynamic_model`.

    Raises:
        ExportError: see :class:`~dqmq_env.export.onnx_runner.OnnxGraph`.

    Attributes:
        layers: their names, in forward order.
        one_by_one: whether each image has bits of its own; images pass one at a time then, else
            those of a call share their bits.
        classes: their names.
        budget: as a fraction of the BOPs at 8 bits; may be changed between calls. ``None`` where
            the policy was trained for one alone.
    """

    def __init__(self, data: bytes) -> None:
        self._graph = OnnxGraph(data, (LOGITS, BITS, COST), further=(BUDGET,))
        own = metadata_of(self._graph, DYNAMIC_SCHEMA)
        self.layers, self.classes, self.one_by_one, given = _checked(own)
        self._budget = given
        if (given is not None) != (BUDGET in self._graph.inputs):
            raise ExportError("path: its metadata do not say what it takes")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            ExportError: it is missing, damaged or foreign.
        """
        return cls(content_of(path))

    @property
    def budget(self) -> float | None:
        """See the class."""
        return self._budget

    @budget.setter
    def budget(self, value: float) -> None:
        """Set the budget.

        Raises:
            SettingError: the policy was trained for one alone, or the value is not above zero.
        """
        if self._budget is None or not value > 0:
            raise SettingError(
                f"budget: got {value}, allowed is a number above 0, of a policy that was trained "
                "for many"
            )
        self._budget = value

    def __call__(self, images: Tensor) -> Prediction:
        """See :class:`~dqmq_env.evaluation.deployed.Deployed`."""
        parts = images.split(1) if self.one_by_one else [images]
        found = [self._predict(part) for part in parts]
        return Prediction(
            torch.cat([own.logits for own in found]),
            torch.cat([own.cost for own in found]),
            torch.cat([own.bits for own in found]),
        )

    def _predict(self, images: Tensor) -> Prediction:
        further = {} if self._budget is None else {BUDGET: torch.tensor([self._budget])}
        logits, bits, cost = self._graph.run(images, further)
        return Prediction(logits, cost.expand(len(images)), bits.expand(len(images), -1))


def _checked(own: Mapping[str, Any]) -> tuple[list[str], list[str], bool, float | None]:
    """What the metadata say.

    Raises:
        ExportError: something of it is missing or of another form.
    """
    try:
        budget = own["budget"]
        (value,) = [None] if budget is None else [float(number) for number in budget]
        return list(own["layers"]), list(own["classes"]), bool(own["one_by_one"]), value
    except (ValueError, TypeError, LookupError) as error:
        raise ExportError(f"path: its metadata are not {DYNAMIC_SCHEMA}: {error!r}") from error
