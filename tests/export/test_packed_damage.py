"""Damaged, foreign and forged files are refused, or load to the network that was written."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as safetensors
from torch import Tensor, nn

from dqmq_env.errors import DQMQError, ExportError
from dqmq_env.evaluation.deployed import StaticNetwork
from dqmq_env.export import load, pack, read, save
from dqmq_env.export.collect import Bits
from dqmq_env.export.container import from_bytes, to_bytes
from dqmq_env.export.packed import encoded
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment, LayerBits
from dqmq_env.randomness import numpy_generator
from dqmq_env.search.rule import Rule
from dqmq_env.training.fine_tune import RuleNetwork
from dqmq_env.training.state import save_state
from dqmq_env.zoo.resnet import CifarResNet

DAMAGES = 2_000
FORGERIES = 400

Damage = Callable[[bytearray, np.random.Generator], bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage")


@pytest.fixture(scope="module")
def good(tiny_problem: NetworkProblem, folder: Path) -> bytes:
    """A small file with a rule, corrections, and two widths of most layers."""
    rule = Rule({"clean": tiny_problem.uniform(2), "jpeg/5": tiny_problem.uniform(4)})
    network = RuleNetwork(tiny_problem.quantized, rule, tiny_problem.normalize)
    save(folder / "good.dqmq", network)
    return (folder / "good.dqmq").read_bytes()


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return CifarResNet(8, width=4)


def flip(data: bytearray, draw: np.random.Generator) -> bytes:
    for place in draw.integers(0, 8 * len(data), draw.integers(1, 9)):
        data[place // 8] ^= 1 << (place % 8)
    return bytes(data)


def truncate(data: bytearray, draw: np.random.Generator) -> bytes:
    return bytes(data[: draw.integers(0, len(data))])


def insert(data: bytearray, draw: np.random.Generator) -> bytes:
    place = int(draw.integers(0, len(data) + 1))
    return bytes(data[:place]) + draw.bytes(int(draw.integers(1, 20))) + bytes(data[place:])


def swap(data: bytearray, draw: np.random.Generator) -> bytes:
    size = int(draw.integers(1, 65))
    one, other = sorted(draw.integers(0, len(data) - 2 * size, 2).tolist())
    other += size
    data[one : one + size], data[other : other + size] = (
        data[other : other + size],
        data[one : one + size],
    )
    return bytes(data)


def cut(data: bytearray, draw: np.random.Generator) -> bytes:
    place = int(draw.integers(0, len(data) - 1))
    return bytes(data[:place] + data[place + int(draw.integers(1, 40)) :])


def edit_header(data: bytearray, draw: np.random.Generator) -> bytes:
    """Another character in the header, whose length stays; or one more, and the length with it."""
    length = int.from_bytes(data[:8], "little")
    place = 8 + int(draw.integers(0, length))
    character = b'0123456789 {}[]",:.-eabtrue'[int(draw.integers(0, 27))]
    if draw.integers(0, 2):
        data[place] = character
        return bytes(data)
    grown = (length + 1).to_bytes(8, "little")
    return bytes(grown + data[8:place] + bytes([character]) + data[place:])


KINDS: tuple[Damage, ...] = (flip, truncate, insert, swap, cut, edit_header)


def test_damage_is_noticed(good: bytes, folder: Path, module: nn.Module) -> None:
    path = folder / "damaged.dqmq"
    draw = numpy_generator(0, "damage")
    loaded = 0
    for number in range(DAMAGES):
        path.write_bytes(KINDS[number % len(KINDS)](bytearray(good), draw))
        try:
            packed = read(path)
        except ExportError:
            continue
        assert encoded(packed) == good
        assert isinstance(load(path, module), RuleNetwork)
        loaded += 1
    assert 0 < loaded < DAMAGES // 20  # blanks between the words of a header mean nothing


def leaves(node: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in children:
        yield (*where, key)
        if isinstance(child, dict | list):
            yield from leaves(child, (*where, key))


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_forged_header_does_no_harm(good: bytes, folder: Path, module: nn.Module) -> None:
    """With checksums that are right; no error but ours comes out, whatever the header says."""
    header, tensors = from_bytes(good, "good")
    draw = numpy_generator(0, "forgery")
    places = list(leaves(header))
    values = [None, -1, 0, 1, 3, 9, 32, 10**30, 0.5, "x", "clean", [], [0], [1, 2, 3], {}, True]
    path = folder / "forged.dqmq"
    refused = 0
    for _ in range(FORGERIES):
        forged: Any = json.loads(json.dumps(header))
        *parents, last = places[int(draw.integers(len(places)))]
        node = forged
        for key in parents:
            node = node[key]
        if draw.integers(0, 5):
            node[last] = values[int(draw.integers(len(values)))]
        else:
            del node[last]
        path.write_bytes(to_bytes(forged, tensors))
        try:
            load(path, module)
        except DQMQError:
            refused += 1
    assert refused > FORGERIES // 2


@pytest.mark.parametrize("name", ["codes", "steps", "floats"])
def test_a_payload_that_is_not_the_headers_is_refused(
    good: bytes, folder: Path, module: nn.Module, name: str
) -> None:
    header, tensors = from_bytes(good, "good")
    path = folder / "other.dqmq"
    changes: dict[str, Tensor] = {
        "has less than": tensors[name][:-1],
        "has more than": torch.cat([tensors[name], tensors[name][:1]]),
        "is no row of": tensors[name].double(),
    }
    for message, tensor in changes.items():
        path.write_bytes(to_bytes(header, {**tensors, name: tensor}))
        with pytest.raises(ExportError, match=f"does not describe the payload: {name} {message}"):
            load(path, module)
    del tensors[name]
    path.write_bytes(to_bytes(header, tensors))
    with pytest.raises(ExportError, match=name):
        load(path, module)


def test_foreign_files_are_refused(good: bytes, folder: Path, module: nn.Module) -> None:
    path = folder / "foreign.dqmq"
    with pytest.raises(ExportError, match="cannot read"):
        load(folder / "missing.dqmq", module)
    with pytest.raises(ExportError, match="cannot read"):
        load(folder, module)
    for data, message in (
        (b"", "damaged or no dqmq-packed/1 file"),
        (b"\x80\x04K\x01.", "damaged or no dqmq-packed/1 file"),
        (b"\xff" * 100, "damaged or no dqmq-packed/1 file"),
        (safetensors({"a": torch.zeros(3)}), "is a safetensors file, but no dqmq-packed/1 file"),
        (safetensors({"a": torch.zeros(3)}, {"dqmq": "[]"}), "but no dqmq-packed/1 file"),
        (good.replace(b"dqmq-packed/1", b"dqmq-packed/2"), "schema 'dqmq-packed/2', this version"),
    ):
        path.write_bytes(data)
        with pytest.raises(ExportError, match=message):
            load(path, module)
    save_state(path, {"step": 3, "weights": torch.zeros(4)})
    with pytest.raises(ExportError, match="damaged or no dqmq-packed/1 file"):
        load(path, module)


def with_change(change: Callable[[CifarResNet], object]) -> nn.Module:
    network = CifarResNet(8, width=4)
    change(network)
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (CifarResNet(8, width=5), r"conv1 is a convolution with weights \(5, 1, 3, 3\)"),
        (nn.Sequential(nn.Conv2d(1, 4, 3)), "a layer 'conv1', the network has none of that name"),
        (with_change(lambda n: setattr(n, "fc", nn.Identity())), "a layer 'fc'"),
        (with_change(lambda n: setattr(n, "fc", nn.Linear(16, 11))), r"linear with weights \(11"),
        (with_change(lambda n: setattr(n.conv1, "stride", (2, 2))), "stride 2"),
        (with_change(lambda n: setattr(n, "more", nn.Linear(2, 2))), "nothing for .*more.weight"),
    ],
)
def test_another_network_is_refused(
    good: bytes, folder: Path, network: nn.Module, message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        load(folder / "good.dqmq", network)


def test_an_architecture_that_is_not_of_the_zoo_has_to_be_given(good: bytes, folder: Path) -> None:
    with pytest.raises(ExportError, match=r"network: got None, and .* names the architecture"):
        load(folder / "good.dqmq")


def test_leftovers_of_another_form_are_refused(
    tiny_problem: NetworkProblem, tmp_path: Path
) -> None:
    static = StaticNetwork(tiny_problem.quantized, tiny_problem.uniform(4), tiny_problem.normalize)
    save(tmp_path / "net.dqmq", static)
    header, tensors = from_bytes((tmp_path / "net.dqmq").read_bytes(), "net")
    (tmp_path / "net.dqmq").write_bytes(to_bytes(header, {**tensors, "float.x": torch.zeros(2)}))
    with pytest.raises(ExportError, match=r"the network has no \['x'\]"):
        load(tmp_path / "net.dqmq", CifarResNet(8, width=4))


# Writing.


def test_nothing_is_written_over_a_file(tiny_problem: NetworkProblem, tmp_path: Path) -> None:
    path = tmp_path / "net.dqmq"
    path.write_text("mine")
    one, other = (
        StaticNetwork(tiny_problem.quantized, tiny_problem.uniform(bits), tiny_problem.normalize)
        for bits in (2, 8)
    )
    with pytest.raises(ExportError, match=r"net.dqmq is there already; --force"):
        save(path, one)
    assert path.read_text() == "mine"
    save(path, one, force=True)
    size = path.stat().st_size
    save(path, other, force=True)
    assert path.stat().st_size > size
    with pytest.raises(ExportError, match="no folder"):
        save(tmp_path / "none" / "net.dqmq", one)
    assert [own.name for own in tmp_path.iterdir()] == ["net.dqmq"]


def test_bits_that_do_not_fit_are_refused(tiny_problem: NetworkProblem) -> None:
    names = list(tiny_problem.candidates)
    wrong: tuple[tuple[Bits, str], ...] = (
        (BitAssignment({"conv1": (8, 8)}), "without bits"),
        (BitAssignment(dict.fromkeys(names, (3, 8))), "conv1: got 3 bits"),
        (BitAssignment(dict.fromkeys(names, (8, 3))), "conv1: got 3 bits"),
        (Rule({}), "bits: got none for some layers"),
        ({"conv1": [LayerBits(8, 8)]}, "bits: got none for some layers"),
    )
    for bits, message in wrong:
        with pytest.raises(DQMQError, match=message):
            pack(tiny_problem.quantized, bits, tiny_problem.normalize)
