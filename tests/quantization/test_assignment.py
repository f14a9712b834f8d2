import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env import BitAssignment, LayerBits
from dqmq_env.errors import AssignmentError

widths = st.sampled_from([*range(1, 9), 32])
mappings = st.dictionaries(st.text(min_size=1), st.tuples(widths, widths), max_size=6)


def test_it_is_a_mapping_in_the_given_order() -> None:
    assignment = BitAssignment({"b": (2, 3), "a": (32, 8)})
    assert list(assignment) == ["b", "a"]
    assert assignment["b"] == LayerBits(weight=2, activation=3)
    assert len(assignment) == 2
    assert "c" not in assignment
    assert repr(assignment) == "BitAssignment(b: 2/3, a: 32/8)"


def test_uniform_gives_all_layers_the_same() -> None:
    assert BitAssignment.uniform(["a", "b"], 4) == BitAssignment({"a": (4, 4), "b": (4, 4)})


def test_it_cannot_be_changed() -> None:
    source = {"a": (2, 2)}
    assignment = BitAssignment(source)
    source["a"] = (8, 8)
    assert assignment["a"] == (2, 2)
    with pytest.raises(TypeError):
        assignment["a"] = (8, 8)  # type: ignore[index]
    with pytest.raises(AttributeError):
        assignment.note = "x"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        assignment["a"].weight = 8  # type: ignore[misc]


@settings(max_examples=50)
@given(bits=mappings, data=st.data())
def test_equal_assignments_have_equal_hashes(
    bits: dict[str, tuple[int, int]], data: st.DataObject
) -> None:
    shuffled = dict(data.draw(st.permutations(list(bits.items()))))
    one, other = BitAssignment(bits), BitAssignment(shuffled)
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1


def test_other_bits_are_another_assignment() -> None:
    assignment = BitAssignment({"a": (2, 4)})
    assert assignment != BitAssignment({"a": (4, 2)})
    assert assignment != BitAssignment({"b": (2, 4)})
    assert assignment != "a"


@settings(max_examples=50)
@given(mappings)
def test_json_round_trip(bits: dict[str, tuple[int, int]]) -> None:
    assignment = BitAssignment(bits)
    again = BitAssignment.from_json(assignment.to_json())
    assert again == assignment
    assert list(again) == list(assignment)
    assert json.loads(assignment.to_json())["schema"] == "dqmq-assignment/1"


def test_file_round_trip(tmp_path: Path) -> None:
    assignment = BitAssignment({"conv1": (8, 8), "größe.0": (2, 32)})
    assignment.save(tmp_path / "assignment.json")
    assert BitAssignment.load(tmp_path / "assignment.json") == assignment
    assert [path.name for path in tmp_path.iterdir()] == ["assignment.json"]


def test_copies_and_pickles_are_equal() -> None:
    assignment = BitAssignment({"a": (2, 4)})
    for other in (copy.deepcopy(assignment), pickle.loads(pickle.dumps(assignment))):
        assert other == assignment
        assert hash(other) == hash(assignment)


def test_a_pickle_can_be_looked_up_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "pickle").write_bytes(pickle.dumps(BitAssignment({"a": (2, 4)})))
    code = (
        "import pickle, pathlib\n"
        "from dqmq_env.quantization.assignment import BitAssignment\n"
        f"read = pickle.loads(pathlib.Path({str(tmp_path / 'pickle')!r}).read_bytes())\n"
        "assert read in {BitAssignment({'a': (2, 4)})}\n"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@settings(max_examples=60)
@given(data=st.data())
def test_damaged_json_is_refused(data: st.DataObject) -> None:
    text = BitAssignment({"conv1": (8, 8), "fc": (4, 2)}).to_json()
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(AssignmentError):
        BitAssignment.from_json(text[:cut])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "3",
        '"text"',
        "[1, 2]",
        "{}",
        '{"schema": "dqmq-assignment/1"}',
        '{"layers": {"a": [8, 8]}}',
        '{"schema": "dqmq-assignment/2", "layers": {"a": [8, 8]}}',
        '{"schema": null, "layers": {"a": [8, 8]}}',
        '{"schema": "dqmq-assignment/1", "layers": [["a", 8, 8]]}',
        '{"schema": "dqmq-assignment/1", "layers": {"a": 8}}',
        '{"schema": "dqmq-assignment/1", "layers": {"a": null}}',
        '{"schema": "dqmq-assignment/1", "layers": {"a": "88"}}',
        '{"schema": "dqmq-assignment/1", "layers": {"a": [8]}}',
        '{"schema": "dqmq-assignment/1", "layers": {"a": [8, 8, 8]}}',
        '{"schema": "dqmq-assignment/1", "layers": {"a": [8, 9]}}',
        '{"schema": "dqmq-assignment/1", "layers": {"a": [8.0, 8]}}',
        '{"schema": "dqmq-assignment/1", "layers": {"a": [true, 8]}}',
        '{"schema": "dqmq-assignment/1", "layers": {"a": [NaN, 8]}}',
        "[" * 100_000,
    ],
    ids=lambda text: text[-30:] or "empty",
)
def test_foreign_json_is_refused(text: str) -> None:
    with pytest.raises(AssignmentError):
        BitAssignment.from_json(text)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AssignmentError, match=r"cannot read .*missing"):
        BitAssignment.load(tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AssignmentError, match=r"cannot read .*binary"):
        BitAssignment.load(tmp_path / "binary")


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint8])
def test_numpy_integers_become_plain_ones(kind: type) -> None:
    assignment = BitAssignment({"a": (kind(4), kind(8))})
    assert assignment == BitAssignment({"a": (4, 8)})
    assert type(assignment["a"].weight) is int
    assert BitAssignment.from_json(assignment.to_json()) == assignment


@pytest.mark.parametrize(
    "bits", [True, np.True_, 0, 9, 16, 33, -4, 4.0, np.float64(4), "4", None, float("nan")]
)
def test_other_bits_are_refused(bits: object) -> None:
    with pytest.raises(AssignmentError, match=r"conv1: .*allowed are 1 to 8, or 32"):
        BitAssignment({"conv1": (8, bits)})  # type: ignore[dict-item]


@pytest.mark.parametrize("pair", [8, (8,), (8, 8, 8), "88", None])
def test_other_than_pairs_are_refused(pair: object) -> None:
    with pytest.raises(AssignmentError, match=r"conv1: got .*weight bits, activation bits"):
        BitAssignment({"conv1": pair})  # type: ignore[dict-item]
