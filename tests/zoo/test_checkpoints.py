import copy
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from dqmq_env.data import load_fashion_mnist
from dqmq_env.errors import CheckpointError
from dqmq_env.evaluation.normalize import Normalize
from dqmq_env.zoo.checkpoints import (
    SHIPPED,
    Card,
    checkpoint_names,
    load_card,
    load_checkpoint,
    save_checkpoint,
)
from dqmq_env.zoo.resnet import CifarResNet

RESNET20 = "resnet20-fashion-mnist"
quick = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped ResNet-20."""
    for ending in ("json", "safetensors"):
        shutil.copy(SHIPPED / f"{RESNET20}.{ending}", tmp_path)
    return tmp_path


def change_card(folder: Path, **changes: Any) -> None:
    path = folder / f"{RESNET20}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_resnet_20_is_shipped() -> None:
    assert RESNET20 in checkpoint_names()
    card = load_card(RESNET20)
    assert card.accuracy["clean"] >= 0.92


@pytest.mark.parametrize("name", checkpoint_names())
def test_shipped_cards_say_what_they_must(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    assert card.dataset == "fashion-mnist"
    assert {"clean", "gaussian_noise/3", "jpeg/3"} <= set(card.accuracy)
    assert all(0.5 < accuracy < 1 for accuracy in card.accuracy.values())
    assert card.accuracy["clean"] == max(card.accuracy.values())
    assert card.recipe["train_images"] > card.recipe["test_images"]
    assert card.recipe["command"].startswith("python -m dqmq_env.zoo")
    assert {"python", "torch"} <= set(card.versions)


@pytest.mark.parametrize("name", checkpoint_names())
def test_shipped_networks_are_as_accurate_as_their_cards_say(name: str) -> None:
    network, card = load_checkpoint(name)
    assert not network.training
    test = load_fashion_mnist().test.take(500)
    with torch.no_grad():
        logits = network(Normalize(card.mean, card.std)(test.images))
    accuracy = float((logits.argmax(1) == test.labels).double().mean())
    assert accuracy == pytest.approx(card.accuracy["clean"], abs=0.03)


def test_loading_twice_gives_networks_of_their_own() -> None:
    one, _ = load_checkpoint(RESNET20)
    with torch.no_grad():
        one.conv1.weight.zero_()
    other, _ = load_checkpoint(RESNET20)
    assert bool((other.conv1.weight != 0).any())


def make_card(name: str = "mine") -> Card:
    return Card(
        name=name,
        architecture={"name": "resnet8", "width": 2, "in_channels": 1, "classes": 3},
        dataset="mine",
        mean=[0.5],
        std=[0.25],
        recipe={"epochs": 1},
        accuracy={"clean": 0.5},
        sha256="",
        versions={},
    )


def test_round_trip(tmp_path: Path) -> None:
    network = CifarResNet(8, width=2, classes=3).train()
    before = copy.deepcopy(network.state_dict())
    card = save_checkpoint(tmp_path / "new" / "folder", make_card(), network)
    assert checkpoint_names(tmp_path / "new" / "folder") == ["mine"]
    loaded, loaded_card = load_checkpoint("mine", tmp_path / "new" / "folder")
    assert loaded_card == card
    assert not loaded.training
    state = loaded.state_dict()
    assert list(state) == list(before)
    assert all(torch.equal(state[key], before[key]) for key in before)


def test_weights_that_share_memory_can_be_saved(tmp_path: Path) -> None:
    network = CifarResNet(8, width=2, classes=3)
    network.layer1[0].conv2.weight = network.layer1[0].conv1.weight
    save_checkpoint(tmp_path, make_card(), network)
    loaded, _ = load_checkpoint("mine", tmp_path)
    assert torch.equal(loaded.layer1[0].conv2.weight, network.layer1[0].conv1.weight)


def test_a_missing_checkpoint_is_refused_with_the_names_of_others(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"'resnet21'.*{RESNET20}"):
        load_checkpoint("resnet21", folder)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(RESNET20, folder / "nowhere")


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / f"{RESNET20}.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"weights of .* are missing"):
        load_checkpoint(RESNET20, folder)


@quick
@given(data=st.data())
def test_damaged_weights_are_refused(folder: Path, data: st.DataObject) -> None:
    content = (SHIPPED / f"{RESNET20}.safetensors").read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        changed = content[place] ^ 1 << data.draw(st.integers(0, 7))
        content = content[:place] + bytes([changed]) + content[place + 1 :]
    (folder / f"{RESNET20}.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged: its checksum"):
        load_checkpoint(RESNET20, folder)


@quick
@given(data=st.data())
def test_a_cut_card_is_refused(folder: Path, data: st.DataObject) -> None:
    text = (SHIPPED / f"{RESNET20}.json").read_text()
    cut = data.draw(st.integers(0, len(text.rstrip()) - 1))
    (folder / f"{RESNET20}.json").write_text(text[:cut])
    with pytest.raises(CheckpointError, match="damaged card"):
        load_card(RESNET20, folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"3", b"null", b'"text"', b"{}", b"\xff\xfe", b"[" * 100_000],
    ids=range(8),
)
def test_a_foreign_card_is_refused(folder: Path, content: bytes) -> None:
    (folder / f"{RESNET20}.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=RESNET20):
        load_card(RESNET20, folder)


@pytest.mark.parametrize(
    "changes", [{"schema": "dqmq-checkpoint/99"}, {"schema": None}, {"surplus": 1}]
)
def test_a_card_of_another_schema_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    change_card(folder, **changes)
    with pytest.raises(CheckpointError, match=RESNET20):
        load_card(RESNET20, folder)


@pytest.mark.parametrize(
    "architecture",
    [
        {"name": "transformer"},
        {"name": "resnet20", "height": 16},
        {"name": "resnet20", "width": "wide"},
        {"name": "resnet20", "width": -1},
        {"name": "resnet20", "width": 8, "in_channels": 1, "classes": 10},
        {"name": "resnet8", "width": 16, "in_channels": 1, "classes": 10},
        {"name": None},
        {"name": []},
        {},
        [],
        "resnet20",
        None,
    ],
    ids=str,
)
def test_an_architecture_that_does_not_fit_is_refused(folder: Path, architecture: object) -> None:
    change_card(folder, architecture=architecture)
    with pytest.raises(CheckpointError, match="do not fit the card"):
        load_checkpoint(RESNET20, folder)


@pytest.mark.parametrize("content", [b"", b"garbage" * 9, b"\x80\x04\x95pickle."])
def test_other_content_with_a_right_checksum_is_refused(folder: Path, content: bytes) -> None:
    (folder / f"{RESNET20}.safetensors").write_bytes(content)
    change_card(folder, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(CheckpointError, match="do not fit the card"):
        load_checkpoint(RESNET20, folder)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    other = nn.Sequential(nn.Conv2d(1, 2, 3))
    card = load_card(RESNET20, folder)
    save_checkpoint(folder, card, other)
    with pytest.raises(CheckpointError, match="do not fit the card"):
        load_checkpoint(RESNET20, folder)
