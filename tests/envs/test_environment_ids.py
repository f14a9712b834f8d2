"""What holds for every id of the suite."""

import hashlib
import inspect
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.common.env_checker as sb3
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.utils.env_match import check_environments_match

import dqmq_env
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.registration import ENTRIES, LIVE_ENTRIES, OWN_PROBLEM, TABULAR_ENTRIES

IDS = [entry.id for entry in ENTRIES]
LIVE = [entry.id for entry in LIVE_ENTRIES]
TABULAR = [entry.id for entry in TABULAR_ENTRIES]
DISCRETE = [entry.id for entry in ENTRIES if entry.kwargs["actions"] == "discrete"]
# Few images and conditions, so that every id can be played through in a second.
SMALL: dict[str, Any] = {
    "batch_size": 25,
    "conditions": {"clean": 1.0, "gaussian_noise/2": 1.0, "contrast/4": 1.0},
    "post_training": "steps",
}
# One id of each network is left with the way of quantising that people get.
SETTINGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(LIVE, SMALL),
    **{name: {**SMALL, "post_training": "reconstruction"} for name in LIVE if name in DISCRETE},
    **{name: {} for name in TABULAR},
}


def make(name: str, **settings: Any) -> gym.Env[Any, Any]:
    return gym.make(name, **(SETTINGS[name] | settings))


@pytest.fixture(scope="module", params=IDS)
def env(request: pytest.FixtureRequest) -> Iterator[gym.Env[Any, Any]]:
    """One environment of each id; every test begins with a reset."""
    env = make(request.param)
    yield env
    env.close()


def play(env: gym.Env[Any, Any], seed: int, episodes: int = 2) -> str:
    """A hash of all that an agent of seeded random actions gets to see."""
    digest = hashlib.sha256()
    env.action_space.seed(seed)
    observation, info = env.reset(seed=seed)
    for _ in range(episodes):
        done = False
        while not done:
            digest.update(observation.tobytes() + json.dumps(info).encode())
            observation, reward, done, _, info = env.step(env.action_space.sample())
            digest.update(repr(reward).encode())
        digest.update(observation.tobytes() + json.dumps(info).encode())
        observation, info = env.reset()
    return digest.hexdigest()


# The same without pytest; it imports Gymnasium alone and finds the ids by their prefix.
SCRIPT = """
import hashlib, json, sys
import gymnasium as gym
{play}
hashes = {{}}
for name, settings in json.loads(sys.argv[1]).items():
    env = gym.make(f"dqmq_env:{{name}}", **settings)
    hashes[name] = play(env, 3)
print(json.dumps(hashes))
"""


@pytest.fixture(scope="module")
def hashes_elsewhere() -> dict[str, str]:
    """What :func:`play` gives in a process of its own."""
    source = inspect.getsource(play).replace("gym.Env[Any, Any]", "object")
    command = [sys.executable, "-c", SCRIPT.format(play=source), json.dumps(SETTINGS)]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    return dict(json.loads(result.stdout))


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_has_nothing_to_say_against_it(name: str) -> None:
    # rendering, for which the checker makes more of them, knows nothing of the form of actions
    env = gym.make(name, render_mode="rgb_array", **(SMALL if name in LIVE else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=name not in DISCRETE)


def test_stable_baselines_has_nothing_to_say_against_it(env: gym.Env[Any, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3.check_env(env.unwrapped)


def test_a_spec_survives_json(env: gym.Env[Any, Any]) -> None:
    assert env.spec is not None
    again = EnvSpec.from_json(env.spec.to_json())
    assert again == env.spec
    other = gym.make(again)
    assert other.observation_space == env.observation_space
    assert other.action_space == env.action_space
    check_environments_match(env, other, num_steps=10, seed=1, skip_render=True)


@pytest.mark.parametrize("name", IDS)
def test_the_registered_spec_is_plain(name: str) -> None:
    spec = gym.spec(name)
    assert EnvSpec.from_json(spec.to_json()) == spec
    assert isinstance(spec.entry_point, str)
    assert spec.max_episode_steps is None
    assert not spec.nondeterministic


def test_the_same_seed_gives_the_same_in_another_process(
    env: gym.Env[Any, Any], hashes_elsewhere: dict[str, str]
) -> None:
    assert env.spec is not None
    hashed = play(env, 3)
    assert hashed == hashes_elsewhere[env.spec.id]
    assert hashed == play(env, 3)
    assert hashed != play(env, 4)


def test_an_episode_keeps_to_its_contract(env: gym.Env[Any, Any]) -> None:
    env.action_space.seed(0)
    observation, info = env.reset(seed=0)
    assert set(info) == {"condition", "batch"}
    steps = 0
    terminated = False
    while not terminated:
        assert env.observation_space.contains(observation)
        assert env.observation_space.dtype == observation.dtype == np.float32
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        steps += 1
        assert type(reward) is float
        assert type(terminated) is bool
        assert truncated is False
        if not terminated:
            assert reward == 0
            assert set(info) == {"condition"}
    problem = env.unwrapped.problem  # type: ignore[attr-defined]
    decided = sum(len(widths) > 1 for widths in problem.candidates.values())
    assert steps == (1 if isinstance(env.action_space, gym.spaces.MultiDiscrete) else decided)
    assert set(info) >= {"condition", "assignment", "accuracy", "loss", "costs", "lowered"}
    assert list(info["assignment"]) == [spec.name for spec in problem.layers]
    assert 0 <= info["accuracy"] <= 1
    assert 0 < info["costs"]["bops"] <= 1
    assert 0 < info["costs"]["size"] <= 1
    assert info["lowered"] == 0  # no budget, nothing to lower
    assert reward == pytest.approx(0.8 * info["accuracy"] + 0.2 * (1 - info["costs"]["bops"]))
    assert ("regret" in info) == isinstance(problem, TableProblem)
    assert json.loads(json.dumps(info)) == info


def test_the_page_gives_the_sizes_of_its_spaces(env: gym.Env[Any, Any]) -> None:
    description = type(env.unwrapped).__doc__
    assert description is not None
    assert env.observation_space.shape is not None
    assert f"``Box(0, 1, ({env.observation_space.shape[0]},), float32)``" in description
    decisions = env.unwrapped.core.decisions  # type: ignore[attr-defined]
    words = " ".join(description.split())
    assert f"{decisions} steps" in words or f" {decisions} with 8 layers" in words
    assert np.prod(env.action_space.shape or (1,)) in (1, decisions)


def test_no_two_calls_share_memory(env: gym.Env[Any, Any]) -> None:
    env.action_space.seed(0)
    seen = [env.reset(seed=0)[0]]
    terminated = False
    while not terminated:
        observation, _, terminated, _, _ = env.step(env.action_space.sample())
        seen.append(observation)
    seen.append(env.reset()[0])
    kept = [observation.copy() for observation in seen]
    env.reset(seed=1)
    for i, observation in enumerate(seen):
        assert data_equivalence(observation, kept[i], exact=True)
        assert not any(np.shares_memory(observation, other) for other in seen[i + 1 :])


def test_an_environment_over_a_problem_of_ones_own(tiny_problem: NetworkProblem) -> None:
    for actions in ("discrete", "continuous", "one-shot"):
        env = gym.make(OWN_PROBLEM.id, problem=tiny_problem, actions=actions)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(env.unwrapped, skip_render_check=True)
            sb3.check_env(env.unwrapped)


def test_public_names_are_there() -> None:
    for name in dqmq_env.__all__:
        assert getattr(dqmq_env, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        dqmq_env.nothing  # noqa: B018


def test_importing_does_not_import_torch() -> None:
    code = (
        "import sys, gymnasium, dqmq_env, dqmq_env.registration, dqmq_env.costs\n"
        "import dqmq_env.task.budget, dqmq_env.task.reward, dqmq_env.task.observation\n"
        "import dqmq_env.problem.protocol, dqmq_env.quantization.assignment\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
        f"assert set({IDS!r}) <= set(gymnasium.registry)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
