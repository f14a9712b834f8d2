import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from dqmq_env.errors import CheckpointError
from dqmq_env.training.state import load_state, save_state

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]

tensors = st.builds(
    lambda dtype, shape, seed: (
        torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 100
    ).to(dtype),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=3),
    st.integers(0, 99),
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["__tensor__", "__pairs__", "__tuple__", "a/b"])
)
keys = st.text(max_size=3) | st.integers(0, 9) | st.sampled_from(["0", "a/b", "__tensor__"])
trees = st.recursive(
    tensors | scalars,
    lambda node: (
        st.lists(node, max_size=3)
        | st.dictionaries(keys, node, max_size=3)
        | st.lists(node, max_size=3).map(tuple)
    ),
    max_leaves=10,
)
quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@quick
@given(tree=st.dictionaries(keys, trees, max_size=4))
def test_round_trip(tmp_path: Path, tree: dict[Any, Any]) -> None:
    save_state(tmp_path / "state", tree)
    assert same(load_state(tmp_path / "state"), tree)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_paths_do_not_run_into_each_other(tmp_path: Path) -> None:
    """Neither keys of different types nor keys with a separator."""
    tree = {
        1: torch.tensor(1),
        "1": torch.tensor(2),
        "a": {"b": torch.tensor(3), "c": [torch.tensor(4)]},
        "a/b": torch.tensor(5),
        "a/c": {0: torch.tensor(6)},
    }
    save_state(tmp_path / "state", tree)
    assert same(load_state(tmp_path / "state"), tree)


def test_tensors_that_share_memory(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    tree = {
        "base": base,
        "again": base,
        "row": base[1],
        "column": base[:, 1],
        "channels last": torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "network": dict(network.state_dict()),
    }
    save_state(tmp_path / "state", tree)
    assert same(load_state(tmp_path / "state"), tree)


def test_special_numbers(tmp_path: Path) -> None:
    tree = {
        "numbers": [math.inf, -math.inf, -0.0, 2**80, 1e-320],
        "tensor": torch.tensor([math.nan, math.inf, -0.0]),
    }
    save_state(tmp_path / "state", tree)
    read = load_state(tmp_path / "state")
    assert read["numbers"] == tree["numbers"]
    assert math.copysign(1, read["numbers"][2]) == -1
    assert torch.equal(read["tensor"].view(torch.int32), tree["tensor"].view(torch.int32))


def test_optimizers_resume_exactly(tmp_path: Path) -> None:
    def step(network: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for number in range(count):
            optimizer.zero_grad()
            network(torch.full((2, 3), float(number))).square().sum().backward()
            optimizer.step()

    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        network = nn.Linear(3, 2)
        return network, torch.optim.Adam(network.parameters(), lr=0.1)

    network, optimizer = fresh()
    step(network, optimizer, 2)
    tree = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
    save_state(tmp_path / "state", tree)
    step(network, optimizer, 2)
    other, other_optimizer = fresh()
    read = load_state(tmp_path / "state")
    other.load_state_dict(read["network"])
    other_optimizer.load_state_dict(read["optimizer"])
    step(other, other_optimizer, 2)
    assert torch.equal(network.weight, other.weight)


@pytest.mark.parametrize("leaf", [object(), {1, 2}, b"bytes", 1j, Path("x")])
def test_other_leaves_are_refused(tmp_path: Path, leaf: object) -> None:
    with pytest.raises(TypeError, match="/inside is a"):
        save_state(tmp_path / "state", {"inside": leaf})
    assert not (tmp_path / "state").exists()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Of a state file."""
    path = tmp_path_factory.mktemp("state") / "state"
    network = nn.Linear(2, 2)
    save_state(path, {"step": 3, "network": network.state_dict(), "note": "text"})
    return path.read_bytes()


@quick
@given(data=st.data())
def test_a_flipped_bit_is_noticed(tmp_path: Path, content: bytes, data: st.DataObject) -> None:
    header = content.index(b"\n") + 1
    place = data.draw(st.integers(0, header - 1) | st.integers(0, len(content) - 1))
    damaged = bytearray(content)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "state").write_bytes(damaged)
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "state")


def test_every_flip_in_the_header_is_noticed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state"
    for place in range(content.index(b"\n") + 1):
        for bit in range(7):  # with the eighth, nothing is ASCII any more
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError):
                load_state(path)


@quick
@given(data=st.data())
def test_a_cut_file_is_noticed(tmp_path: Path, content: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(content) - 1))
    (tmp_path / "state").write_bytes(content[:cut])
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "state")


def test_bytes_at_the_end_are_noticed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").write_bytes(content + b"\0")
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "state")


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        b"\n",
        b"{}\n{}",
        b"[]\n",
        b'"sha256"\nrest',
        b"3\nrest",
        b"\x80\x04\x95pickle\n.",
        b"PK\x03\x04\n",
        b'{"sha256": 1, "length": Infinity}\n',
        b'{"sha256": null, "length": null}\n',
        b"[" * 100_000 + b"\n",
        random.Random(0).randbytes(500),
    ],
    ids=range(12),
)
def test_foreign_files_are_refused(tmp_path: Path, foreign: bytes) -> None:
    (tmp_path / "state").write_bytes(foreign)
    with pytest.raises(CheckpointError, match="path: "):
        load_state(tmp_path / "state")


@pytest.mark.parametrize(
    "payload", [b'{"schema": "other", "tree": {}}', b"[1]", b"{}", b"not JSON"]
)
def test_foreign_content_with_a_right_checksum_is_refused(tmp_path: Path, payload: bytes) -> None:
    header = {"sha256": hashlib.sha256(payload).hexdigest(), "length": len(payload)}
    (tmp_path / "state").write_bytes(json.dumps(header).encode() + b"\n" + payload)
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "state")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no state file"):
        load_state(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="no state file"):
        load_state(tmp_path)
