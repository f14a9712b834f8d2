"""The folder of a benchmark: nothing damaged is read, nothing is lost."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env.benchmark.job import Job, Result
from dqmq_env.benchmark.run_job import run_job
from dqmq_env.benchmark.store import Store, read_result, result_paths
from dqmq_env.benchmark.suite import Suite
from dqmq_env.errors import ResultError

TABULAR = "DQMQ-ResNet8-Tabular-v0"
TINY = "tests.benchmark.searchers:Tiny"
JOB = Job(TINY, TABULAR, 100, 0)
SUITE = Suite.from_dict(
    {
        "name": "own",
        "evaluations": 100,
        "seeds": [0, 1],
        "tasks": [{"id": TABULAR}],
        "agents": [{"agent": TINY}],
    },
    "own",
)


@pytest.fixture(scope="module")
def result() -> Result:
    return run_job(JOB)


def test_results_are_found_again(tmp_path: Path, result: Result) -> None:
    store = Store.claim(tmp_path / "a" / "b", SUITE)
    jobs = SUITE.jobs()
    assert store.missing(jobs) == jobs
    store.save(JOB, result.to_json())
    assert store.result(JOB) == result
    assert store.missing(jobs) == jobs[1:]
    assert Store.claim(tmp_path / "a" / "b", SUITE).missing(jobs) == jobs[1:]
    (path,) = result_paths(store.folder)
    assert read_result(path) == result


def test_a_result_of_another_job_is_not_kept(tmp_path: Path, result: Result) -> None:
    store = Store(tmp_path)
    with pytest.raises(ResultError, match="asked for was"):
        store.save(replace(JOB, seed=1), result.to_json())
    with pytest.raises(ResultError, match="not dqmq-result"):
        store.save(JOB, result.to_json()[:-9])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_belongs_to_its_suite(tmp_path: Path) -> None:
    Store.claim(tmp_path, SUITE)
    with pytest.raises(ResultError, match=r"another suite.*choose another folder"):
        Store.claim(tmp_path, replace(SUITE, seeds=(0, 1, 2)))
    path = tmp_path / "suite.json"
    begun = json.loads(path.read_text())
    path.write_text(json.dumps(begun | {"version": "0.0.1"}))
    with pytest.raises(ResultError, match=r"version 0.0.1.*dqmq-env==0.0.1"):
        Store.claim(tmp_path, SUITE)
    path.write_text(json.dumps(begun)[:40])
    with pytest.raises(ResultError, match="cannot be read"):
        Store.claim(tmp_path, SUITE)


def flip(data: bytes, place: int, number: int) -> bytes:
    """One bit is another."""
    changed = bytearray(data)
    changed[place % len(data)] ^= 1 << number % 8
    return bytes(changed)


def cut(data: bytes, place: int, number: int) -> bytes:
    """The end is missing."""
    return data[: place % len(data)]


def exchange(data: bytes, place: int, number: int) -> bytes:
    """A digit is another."""
    digits = [i for i, byte in enumerate(data) if chr(byte).isdigit()]
    changed = bytearray(data)
    changed[digits[place % len(digits)]] = ord(str(number % 10))
    return bytes(changed)


def blank(data: bytes, place: int, number: int) -> bytes:
    """A block of the disk was never written."""
    start = place % len(data)
    return data[:start] + bytes(len(data[start : start + number])) + data[start + number :]


@settings(max_examples=150)
@given(
    damage=st.sampled_from([flip, cut, exchange, blank]),
    place=st.integers(0, 10**6),
    number=st.integers(1, 600),
)
def test_damage_is_noticed_and_set_aside(
    result: Result, damage: Callable[[bytes, int, int], bytes], place: int, number: int
) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        store = Store(folder)
        path = folder / "results" / f"{JOB.key}.json"
        path.parent.mkdir()
        data = damage(result.to_json().encode(), place, number)
        path.write_bytes(data)
        read = store.result(JOB)
        if read is None:
            assert not path.exists()
            (kept,) = (folder / "damaged").iterdir()
            assert kept.read_bytes() == data
        else:
            assert read == result
    finally:
        shutil.rmtree(folder)


@settings(max_examples=60)
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["schema", "job", "sha256", "scores"]), inner)
        ),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode())
)
def test_what_is_no_result_is_set_aside(data: bytes) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        store = Store(folder)
        path = folder / "results" / f"{JOB.key}.json"
        path.parent.mkdir()
        for _ in range(2):
            path.write_bytes(data)
            assert store.result(JOB) is None
        assert {own.read_bytes() for own in (folder / "damaged").iterdir()} == {data}
        assert len(list((folder / "damaged").iterdir())) == 2
        assert store.missing([JOB]) == [JOB]
    finally:
        shutil.rmtree(folder)


def test_a_result_under_a_foreign_name_is_set_aside(tmp_path: Path, result: Result) -> None:
    store = Store(tmp_path)
    store.save(JOB, result.to_json())
    other = replace(JOB, seed=1)
    (tmp_path / "results" / f"{JOB.key}.json").rename(tmp_path / "results" / f"{other.key}.json")
    assert store.result(other) is None
    assert len(list((tmp_path / "damaged").iterdir())) == 1


def test_every_attempt_that_failed_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.failure(JOB) is None
    store.fail(JOB, "Traceback\nValueError: first\n")
    failure = store.fail(JOB, "Traceback\nValueError: second\n")
    assert failure.reason == "ValueError: second"
    assert len(failure.tracebacks) == 2
    assert Store(tmp_path).failure(JOB) == failure
    assert json.loads(failure.path.read_text())["job"]["agent"] == JOB.agent


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "tracebacks": ["x"]}', "\x00"])
def test_a_damaged_failure_is_set_aside(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    store.fail(JOB, "x").path.write_text(text)
    assert store.failure(JOB) is None
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    assert store.fail(JOB, "y").tracebacks == ("y",)
