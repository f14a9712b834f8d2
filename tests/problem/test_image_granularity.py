"""Episodes about single images."""

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.common.env_checker as sb3
import torch
import torch.nn.functional as F
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env import BitAssignment
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.envs.vector import BitWidthVectorEnv
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality import Condition, describe

MakeProblem = Callable[..., NetworkProblem]


@pytest.fixture(scope="module")
def problem(make_tiny_problem: MakeProblem) -> NetworkProblem:
    return make_tiny_problem(granularity="image")


def play(env: BitWidthEnv, actions: list[int], **reset: Any) -> tuple[list[bytes], dict[str, Any]]:
    """All observations, and what is known at the end."""
    observation, _ = env.reset(**reset)
    seen = [observation.tobytes()]
    info: dict[str, Any] = {}
    for action in actions:
        observation, *_, info = env.step(action)
        seen.append(observation.tobytes())
    return seen, info


def test_an_episode_is_about_one_image(problem: NetworkProblem) -> None:
    env = BitWidthEnv(problem)
    options = {"condition": "gaussian_noise/3", "batch": 7}
    observation, info = env.reset(options=options)
    assert info == options
    image = problem.search.under("gaussian_noise/3")[7:8]
    quality = observation[env.core.observer.layout.part("quality")]
    assert np.array_equal(quality, describe(image)[0].numpy())
    shown = problem.start([Condition.parse("gaussian_noise/3")], [7]).images
    assert shown.shape == (1, 1, 28, 28, 1)
    assert np.array_equal(shown[0, 0, :, :, 0], image[0, 0].numpy())
    _, end = play(env, [0, 1, 2, 1, 0, 2], options=options)
    assignment = BitAssignment(end["assignment"])
    with torch.no_grad():
        # two of it, since kernels for a single image round in another way
        logits = problem.quantized(problem.normalize(image.repeat(2, 1, 1, 1)), assignment)[:1]
    label = problem.data.search.labels[7:8]
    assert end["accuracy"] == float(logits.argmax(1) == label)
    assert end["loss"] == float(F.cross_entropy(logits.double(), label))


def test_every_search_image_can_be_drawn(problem: NetworkProblem) -> None:
    assert problem.batches == len(problem.data.search)
    env = BitWidthEnv(problem)
    with pytest.raises(SettingError, match="allowed are 0 to 49"):
        env.reset(options={"batch": 50})
    drawn = {env.reset(seed=seed)[1]["batch"] for seed in range(60)}
    assert len(drawn) > 20


@settings(max_examples=8)
@given(
    count=st.integers(1, 70), seed=st.integers(0, 10**6), form=st.sampled_from(["discrete", "one"])
)
def test_images_together_equal_images_alone(
    problem: NetworkProblem, count: int, seed: int, form: str
) -> None:
    actions = "one-shot" if form == "one" else "discrete"
    vector = BitWidthVectorEnv(count, problem, actions=actions)
    single = BitWidthEnv(problem, actions=actions)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(3, size=(6, count))
    steps = [chosen.T] if form == "one" else list(chosen)
    observations, _ = vector.reset(seed=seed)
    seen = [observations]
    for step in steps:
        observations, *_, info = vector.step(step)
        seen.append(observations)
    seen[-1] = np.stack(list(info["final_obs"]))
    for number in {0, count // 2, count - 1}:
        own = [step[number] for step in steps]
        alone, end = play(single, own, seed=seed + number)
        assert alone == [row[number].tobytes() for row in seen]
        for key in ("loss", "accuracy"):
            assert info["final_info"][key][number] == end[key]


@pytest.mark.parametrize("actions", ["discrete", "continuous", "one-shot"])
def test_the_checkers_have_nothing_to_say(problem: NetworkProblem, actions: str) -> None:
    env = gym.make("DQMQ-v0", problem=problem, actions=actions).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)
        sb3.check_env(env)


def test_pickling_in_mid_episode(problem: NetworkProblem) -> None:
    env = BitWidthEnv(problem)
    env.reset(seed=3)
    env.step(0)
    env.step(2)
    other = pickle.loads(pickle.dumps(env))
    for action in (1, 0, 2, 1):
        one, another = env.step(action), other.step(action)
        assert np.array_equal(one[0], another[0])
        assert one[1:] == another[1:]


def test_an_id_takes_it() -> None:
    env = gym.make("dqmq_env:DQMQ-ResNet8-v0", granularity="image", conditions=["clean", "jpeg/5"])
    env.action_space.seed(0)
    env.reset(seed=0)
    done = False
    while not done:
        *_, done, _, info = env.step(env.action_space.sample())
    assert info["accuracy"] in (0, 1)


def test_an_unknown_granularity_is_refused(make_tiny_problem: MakeProblem) -> None:
    with pytest.raises(SettingError, match="granularity: got 'pixel', allowed are"):
        make_tiny_problem(granularity="pixel")
