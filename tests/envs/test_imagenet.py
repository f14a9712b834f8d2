"""Environments over torchvision's networks and folders of images, on tiny ones made here."""

import copy
import json
import urllib.error
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.common.env_checker as sb3
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.env_match import check_environments_match
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model

from dqmq_env.errors import CheckpointError, DataError, DQMQError, SettingError
from dqmq_env.registration import TORCHVISION_ENTRIES

IDS = [entry.id for entry in TORCHVISION_ENTRIES]
EIGHTEEN = [name for name in IDS if "ResNet18" in name]
CLASSES = ("ant", "bee", "cat")
SMALL: dict[str, Any] = {
    "side": 32,
    "resize": 36,
    "train_images": 8,
    "search_images": 4,
    "test_images": 3,
    "batch_size": 2,
    "conditions": {"clean": 1.0, "gaussian_noise/2": 1.0},
    "bits": [2, 8],
    "post_training": "steps",
}
WIDTHS = [2, 3, 4, 5, 6, 7, 8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of each class to train on, two to test on."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 2)):
        for name in CLASSES:
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
    return root


def trained(architecture: str, classes: int) -> nn.Module:
    """A network with random weights and batch norms that have seen images, as after training."""
    torch.manual_seed(0)
    network: nn.Module = get_model(architecture, weights=None, num_classes=classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(torch.randn(16, 3, 32, 32))
    return network.eval()


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The state dict of a ResNet-18 of three classes."""
    return dict(trained("resnet18", len(CLASSES)).state_dict())


@pytest.fixture(scope="module")
def weights(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def make(folder: Path, weights: Path) -> Callable[..., gym.Env[Any, Any]]:
    """Makes an environment of an id over the tiny folder and file."""

    def made(name: str = "DQMQ-ResNet18-v0", **changes: Any) -> gym.Env[Any, Any]:
        return gym.make(name, **(SMALL | {"data": str(folder), "weights": str(weights)} | changes))

    return made


@pytest.fixture(scope="module", params=EIGHTEEN)
def env(
    request: pytest.FixtureRequest, make: Callable[..., gym.Env[Any, Any]]
) -> gym.Env[Any, Any]:
    """A ResNet-18 in each form of actions; every test begins with a reset."""
    return make(request.param)


def check(env: gym.Env[Any, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
        sb3.check_env(env.unwrapped)


def test_no_checker_has_anything_to_say_against_resnet18(env: gym.Env[Any, Any]) -> None:
    check(env)


def test_nor_against_resnet50(
    make: Callable[..., gym.Env[Any, Any]], folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "fifty.pt"
    torch.save(trained("resnet50", len(CLASSES)).state_dict(), path)
    env = make("DQMQ-ResNet50-OneShot-v0", weights=str(path))
    assert env.action_space == gym.spaces.MultiDiscrete([2] * 52)
    check(env)


@pytest.mark.parametrize("name", IDS)
def test_the_registered_spec_is_plain_and_asks_for_data(name: str) -> None:
    spec = gym.spec(name)
    assert EnvSpec.from_json(spec.to_json()) == spec
    with pytest.raises(SettingError, match=r"^data: got None.*train/<class>/"):
        gym.make(name)
    with pytest.raises(SettingError, match=r"^data: got None"):
        gym.make_vec(name, num_envs=2, vectorization_mode="vector_entry_point")


def test_a_spec_survives_json_and_makes_the_same_again(env: gym.Env[Any, Any]) -> None:
    assert env.spec is not None
    again = EnvSpec.from_json(env.spec.to_json())
    assert again == env.spec
    other = gym.make(again)
    assert other.observation_space == env.observation_space
    assert other.action_space == env.action_space
    check_environments_match(env, other, num_steps=21, seed=1, skip_render=True)


def test_the_vector_form_equals_single_ones(env: gym.Env[Any, Any]) -> None:
    assert env.spec is not None
    given = {key: value for key, value in env.spec.kwargs.items() if key != "actions"}
    vector = gym.make_vec(env.spec.id, num_envs=2, vectorization_mode="vector_entry_point", **given)
    vector.action_space.seed(5)
    chosen = [vector.action_space.sample() for _ in range(1 if "OneShot" in env.spec.id else 3)]
    seen = [vector.reset(seed=5)[0], *(vector.step(actions) for actions in chosen)]
    for number in range(2):
        np.testing.assert_array_equal(seen[0][number], env.reset(seed=5 + number)[0])
        for actions, together in zip(chosen, seen[1:], strict=True):
            observation, reward, terminated, _, _ = env.step(actions[number])
            last = together[4].get("final_obs", together[0])[number]
            np.testing.assert_array_equal(last, observation)
            assert together[1][number] == reward
            assert together[2][number] == terminated


def test_its_page_gives_its_sizes(make: Callable[..., gym.Env[Any, Any]]) -> None:
    env = make(bits=WIDTHS)
    description = type(env.unwrapped).__doc__
    assert description is not None
    assert env.observation_space.shape == (31,)
    assert "``Box(0, 1, (31,), float32)``" in description
    assert env.unwrapped.core.decisions == 19  # type: ignore[attr-defined]
    assert "(19\n    steps with 18 layers, 52 with 50" in description


def test_arguments_in_common_reach_the_problem(make: Callable[..., gym.Env[Any, Any]]) -> None:
    env = make(bits=[2, 4, 8], decisions="separate", granularity="image", first=None, budget=0.5)
    assert env.action_space == gym.spaces.Discrete(3)
    assert env.unwrapped.core.decisions == 40  # type: ignore[attr-defined]
    env.action_space.seed(0)
    env.reset(seed=0)
    info: dict[str, Any] = {}
    done = False
    while not done:
        _, _, done, _, info = env.step(env.action_space.sample())
    assert info["accuracy"] in (0, 1)
    assert info["costs"]["bops"] <= 0.5
    assert json.loads(json.dumps(info)) == info


def test_a_failed_download_says_what_else_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., gym.Env[Any, Any]]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    with pytest.raises(CheckpointError, match=r"^weights: .*no network.*give its path"):
        make(weights="IMAGENET1K_V1")


def test_a_folder_with_some_of_the_classes_needs_the_names_of_all(
    make: Callable[..., gym.Env[Any, Any]], state: dict[str, Tensor], tmp_path: Path
) -> None:
    more = copy.deepcopy(state)
    more["fc.weight"], more["fc.bias"] = torch.randn(5, 512), torch.randn(5)
    torch.save(more, path := str(tmp_path / "five.pt"))
    with pytest.raises(DataError, match=r"^data: .* has 3 classes, allowed are 5.*classes="):
        make(weights=path)
    names = ["ape", "cat", "bee", "cow", "ant"]
    problem = make(weights=path, classes=names).unwrapped.problem  # type: ignore[attr-defined]
    assert problem.data.classes == tuple(names)
    assert set(problem.data.train.labels.tolist()) == {1, 2, 4}
    with pytest.raises(DataError, match=r"^classes: got 4 classes, allowed are 5"):
        make(weights=path, classes=names[:4])
    with pytest.raises(DataError, match=r"^classes: .*'ant', which is none"):
        make(weights=path, classes=[*names[:4], "elk"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": "nowhere"}, DataError, "data: nowhere has no folders 'train' and 'val'"),
        ({"weights": "IMAGENET1K_V9"}, CheckpointError, "weights: got 'IMAGENET1K_V9'.*K_V1"),
        ({"weights": "nowhere.pt"}, CheckpointError, "weights: got 'nowhere.pt'"),
        ({"weights": ["x"]}, CheckpointError, r"weights: got \['x'\]"),
        ({"architecture": "vgg11"}, SettingError, "architecture: got 'vgg11'.*resnet50"),
        ({"sides": 3}, SettingError, "sides: unknown argument.*'side'"),
        ({"side": 0}, DataError, "side: got 0"),
        ({"side": 40}, DataError, "resize: got 36, allowed are integers from 40"),
        ({"search_images": 0}, DataError, "search_images: got 0"),
        ({"train_images": "all"}, DataError, "train_images: got 'all'"),
        ({"test_images": -1}, DataError, "test_images: got -1"),
        ({"batch_size": 5}, DataError, "batch_size: got 5"),
        ({"granularity": "pixel"}, SettingError, "granularity: got 'pixel'"),
        ({"post_training": "best"}, SettingError, "post_training: got 'best'.*'steps'"),
        ({"decisions": "none"}, SettingError, "decisions: got 'none'"),
        ({"cost": "joules"}, DQMQError, "cost: got 'joules'"),
    ],
)
def test_wrong_arguments_are_named(
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
    make: Callable[..., gym.Env[Any, Any]],
) -> None:
    with pytest.raises(error, match=message):
        make(**changes)
