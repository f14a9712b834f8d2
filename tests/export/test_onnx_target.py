from pathlib import Path

import pytest
import torch

from dqmq_env.errors import ExportError
from dqmq_env.export import OnnxFolder, OnnxNetwork
from dqmq_env.export.source import Source
from dqmq_env.export.targets import Output, target_by_name
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.search.rule import Rule


def source_of(problem: NetworkProblem, bits: object) -> Source:
    return Source(problem, problem.quantized, bits, command="dqmq export --to onnx")  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["onnx", "onnx21"])
def test_an_assignment_becomes_a_file_with_a_card(
    target: str, tiny_problem: NetworkProblem, tmp_path: Path
) -> None:
    assignment = tiny_problem.uniform(2)
    source, output = source_of(tiny_problem, assignment), Output(tmp_path / "net.onnx")
    said = target_by_name(target)(source, output)
    found = OnnxNetwork.load(tmp_path / "net.onnx")
    assert found.assignment == assignment
    size = (tmp_path / "net.onnx").stat().st_size
    assert f"{size:,}" in said
    assert f"opset {21 if target == 'onnx21' else 25}" in said
    card = (tmp_path / "net.onnx.md").read_text()
    assert 'InferenceSession("net.onnx")' in card
    assert "dqmq export --to onnx" in card
    with pytest.raises(ExportError, match="--force"):
        target_by_name(target)(source, output)


def test_a_rule_becomes_a_folder_with_a_card(tiny_problem: NetworkProblem, tmp_path: Path) -> None:
    rule = Rule({"clean": tiny_problem.uniform(2), "jpeg/5": tiny_problem.uniform(8)})
    target_by_name("onnx")(source_of(tiny_problem, rule), Output(tmp_path / "rule"))
    found = OnnxFolder(tmp_path / "rule")
    assert found.rule == rule
    images = tiny_problem.data.test.images[:3]
    assert torch.isfinite(found.under("clean")(images).logits).all()
    assert 'OnnxFolder(Path("rule")).under("clean")' in (tmp_path / "rule.md").read_text()
