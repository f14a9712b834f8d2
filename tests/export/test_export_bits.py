"""Bits as other programs write and read them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqmq_env.benchmark.job import Job, Result
from dqmq_env.errors import DQMQError
from dqmq_env.export.bits_file import plain, plain_text, read_bits
from dqmq_env.export.brevitas import brevitas_json, brevitas_markdown, brevitas_rows
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.rule import Rule

ASSIGNMENT = BitAssignment({"conv1": (8, 8), "fc": (2, 32)})
RULE = Rule({"clean": ASSIGNMENT, "jpeg/5": BitAssignment({"conv1": (4, 4), "fc": (3, 3)})})


def written(folder: Path, text: str) -> Path:
    path = folder / "bits.json"
    path.write_text(text, encoding="utf-8")
    return path


widths = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 32])
names = st.text(min_size=1, max_size=12).filter(lambda name: name != "schema")


@given(st.dictionaries(names, st.tuples(widths, widths), min_size=1, max_size=6))
def test_a_plain_mapping_is_the_assignment(
    tmp_path_factory: pytest.TempPathFactory, bits: dict[str, tuple[int, int]]
) -> None:
    assignment = BitAssignment(bits)
    text = plain_text(assignment)
    assert json.loads(text) == {name: list(pair) for name, pair in bits.items()}
    found = read_bits(written(tmp_path_factory.getbasetemp(), text))
    assert found == assignment
    assert list(found) == list(bits)


def test_every_form_is_read(tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    ASSIGNMENT.save(path)
    assert read_bits(path) == ASSIGNMENT
    found = read_bits(written(tmp_path, plain_text(RULE)))
    assert isinstance(found, Rule)
    assert found == RULE
    assert plain(found) == RULE.to_dict()
    result = Result(
        Job("a:B", "DQMQ-ResNet8-v0", 1, 0), RULE.to_dict(), [], [], [], {}, 0.0, {}, "", {}
    )
    assert read_bits(written(tmp_path, result.to_json())) == RULE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read"),
        ("[]", "holds no layers"),
        ("{}", "holds no layers"),
        ('{"conv1": 4}', "conv1: got 4"),
        ('{"conv1": [4]}', r"conv1: got \[4\]"),
        ('{"conv1": [4, 9]}', "got 9 bits"),
        ('{"wet/3": {"conv1": [4, 4]}}', "got 'wet', must be one of"),
        ('{"clean": {"conv1": [4, 40]}}', "got 40 bits"),
        ('{"schema": "other/1", "layers": {}}', "schema 'other/1', allowed are"),
        ('{"schema": "dqmq-assignment/1"}', "not dqmq-assignment/1 JSON"),
        ('{"schema": "dqmq-result/1"}', "not dqmq-result/1 JSON"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DQMQError, match=message):
        read_bits(written(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DQMQError, match="cannot read"):
        read_bits(tmp_path / "none.json")


def test_the_table_for_brevitas(tiny_problem: NetworkProblem) -> None:
    layers = tiny_problem.layers
    names = [spec.name for spec in layers]
    bits = BitAssignment(
        {name: (8, 8) if name in ("conv1", "fc") else (2, 32) for name in reversed(names)}
    )
    rows = brevitas_rows(layers, bits)
    assert list(rows) == names
    assert rows["fc"] == {"layer": "QuantLinear", "weight_bit_width": 8, "input_bit_width": 8}
    assert rows["layer1.0.conv1"] == {
        "layer": "QuantConv2d",
        "weight_bit_width": 2,
        "input_bit_width": None,
    }
    assert json.loads(brevitas_json(layers, bits)) == {"schema": "dqmq-brevitas/1", "layers": rows}
    lines = brevitas_markdown(layers, bits).splitlines()
    assert len(lines) == 2 + len(names)
    assert "| `layer1.0.conv1` | `QuantConv2d` | 2 | float |" in lines
    with pytest.raises(DQMQError, match="layers without bits"):
        brevitas_rows(layers, ASSIGNMENT)
