from pathlib import Path

import pytest
import torch
from torch import Tensor

from dqmq_env.data import ImageData
from dqmq_env.errors import CheckpointError
from dqmq_env.evaluation.deployed import Prediction
from dqmq_env.evaluation.report import Evaluation, evaluate
from dqmq_env.quality import Condition
from dqmq_env.quality.conditioned import ConditionedImages


class FixedAnswers:
    """Is right about every second image, costs more for darker ones."""

    def __init__(self, labels: Tensor) -> None:
        self._labels = labels
        self._at = 0

    def __call__(self, images: Tensor) -> Prediction:
        part = self._labels[self._at : self._at + len(images)]
        self._at = (self._at + len(images)) % len(self._labels)
        wrong = torch.arange(len(images)) % 2
        logits = torch.nn.functional.one_hot((part + wrong) % 10, 10).float()
        cost = 1 - images.float().mean((1, 2, 3)) / 255
        return Prediction(logits, cost, torch.tensor([[8, 4]]).expand(len(images), -1))


@pytest.fixture
def evaluation(tiny_data: ImageData) -> Evaluation:
    conditions = [Condition.parse(text) for text in ("clean", "darkness/5")]
    network = FixedAnswers(tiny_data.test.labels)
    images = ConditionedImages(tiny_data.test)
    return evaluate("half", ["a", "b"], network, images, conditions, batch=20)


def test_rows_count_and_average(evaluation: Evaluation) -> None:
    assert [row.condition for row in evaluation.rows] == ["clean", "darkness/5"]
    assert all(row.accuracy == 0.5 and row.images == 40 for row in evaluation.rows)
    assert all(row.bits == [8, 4] for row in evaluation.rows)
    assert evaluation.rows[0].cost < evaluation.rows[1].cost
    assert evaluation.accuracy == 0.5
    assert evaluation.cost == pytest.approx(sum(row.cost for row in evaluation.rows) / 2)


def test_the_interval_treats_the_images_as_the_unit(evaluation: Evaluation) -> None:
    """Both conditions are right about the same images, so the second one adds no certainty."""
    low, high = evaluation.interval
    margin = 1.96 * (0.25 * 40 / 39 / 40) ** 0.5
    assert (low, high) == pytest.approx((0.5 - margin, 0.5 + margin), abs=1e-4)


def test_round_trip(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.save(tmp_path / "deep" / "evaluation.json")
    assert Evaluation.load(tmp_path / "deep" / "evaluation.json") == evaluation


@pytest.mark.parametrize("content", ["", "{}", '{"schema": "other/1"}', "[1, 2", "null"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match="evaluation"):
        Evaluation.load(path)
    with pytest.raises(CheckpointError):
        Evaluation.load(tmp_path / "missing.json")
