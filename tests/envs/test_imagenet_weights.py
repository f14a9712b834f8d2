"""Weights of torchvision's networks: which files are read, and which are refused."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model

from dqmq_env.envs.imagenet import load_resnet
from dqmq_env.errors import CheckpointError


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The state dict of a ResNet-18 of three classes."""
    torch.manual_seed(0)
    return dict(get_model("resnet18", weights=None, num_classes=3).state_dict())


# ways in which people keep weights; each takes a state dict and a path without a suffix


def _plain(state: dict[str, Tensor], stem: Path) -> Path:
    torch.save(state, path := stem.with_suffix(".pt"))
    return path


def _safetensors(state: dict[str, Tensor], stem: Path) -> Path:
    save_file(state, path := stem.with_suffix(".safetensors"))
    return path


def _wrapped(key: str) -> Callable[[dict[str, Tensor], Path], Path]:
    def write(state: dict[str, Tensor], stem: Path) -> Path:
        torch.save({"epoch": 3, key: state}, path := stem.with_suffix(".tar"))
        return path

    return write


def _prefixed(state: dict[str, Tensor], stem: Path) -> Path:
    prefixed = {f"module.{name}": value for name, value in state.items()}
    torch.save({"state_dict": prefixed}, path := stem.with_suffix(".pth"))
    return path


@pytest.mark.parametrize(
    "write",
    [_plain, _safetensors, _wrapped("state_dict"), _wrapped("model"), _prefixed],
    ids=["plain", "safetensors", "state_dict", "model", "module"],
)
def test_weights_are_read_from_any_common_file(
    write: Callable[[dict[str, Tensor], Path], Path], state: dict[str, Tensor], tmp_path: Path
) -> None:
    network = load_resnet("resnet18", str(write(state, tmp_path / "w")))
    assert not network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name])


def test_what_torch_keeps_of_its_own_weights_is_used(
    state: dict[str, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    kept = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    kept.parent.mkdir(parents=True)
    torch.save(state, kept)
    assert len(load_resnet("resnet18", "IMAGENET1K_V1").state_dict()) == len(state)
    torch.save({**state, "extra": argparse.Namespace()}, kept)
    with pytest.raises(CheckpointError, match=r"^weights: IMAGENET1K_V1 cannot be had"):
        load_resnet("resnet18", "IMAGENET1K_V1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"fc.weight": torch.ones(3, 512)}, "does not fit resnet18: Missing"),
        ({"classifier.weight": torch.ones(3, 512)}, "no matrix 'fc.weight'"),
        ({"fc.weight": torch.ones(3)}, "no matrix 'fc.weight'"),
        ({"fc.weight": [1.0]}, "no state dict"),
        ({3: torch.ones(3)}, "no state dict"),
        (torch.ones(3), "no state dict"),
        (argparse.Namespace(), "damaged or holds more than tensors"),
    ],
)
def test_files_that_hold_something_else_are_refused(
    content: object, message: str, tmp_path: Path
) -> None:
    torch.save(content, path := tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=f"^weights: .*{message}"):
        load_resnet("resnet18", str(path))


def test_weights_of_another_network_are_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = str(_plain(state, tmp_path / "w"))
    with pytest.raises(CheckpointError, match=r"does not fit resnet34: Missing.*\.\.\.$"):
        load_resnet("resnet34", path)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), path := tmp_path / "whole.pt")
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_resnet("resnet18", str(path))
    path.write_bytes(b"cbuiltins\nexit\n(I7\ntR.")
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_resnet("resnet18", str(path))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([".pt", ".safetensors"]), st.integers(0, 4000), st.binary(max_size=4))
def test_damaged_files_are_refused(tmp_path: Path, suffix: str, end: int, more: bytes) -> None:
    path = tmp_path / f"w{suffix}"
    content = {"fc.weight": torch.ones(3, 8), "fc.bias": torch.zeros(3)}
    save_file(content, path) if suffix == ".safetensors" else torch.save(content, path)
    path.write_bytes(path.read_bytes()[:end] + more)
    with pytest.raises(CheckpointError, match=r"^weights: "):
        load_resnet("resnet18", str(path))
