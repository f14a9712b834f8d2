"""``DQMQ-ResNet-v0`` as it is shipped, and the single environment over a tiny problem."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env import BitAssignment, BitWidthEnv, Condition, LayerBits, NetworkProblem, Task
from dqmq_env.costs import Bops
from dqmq_env.errors import ActionError, CheckpointError, ConditionError, DQMQError, SettingError
from dqmq_env.evaluation.accuracy import judge
from dqmq_env.problem.pass_key import PassKey
from dqmq_env.task.reward import WeightedReward

MakeProblem = Callable[..., NetworkProblem]


@pytest.fixture(scope="module")
def shipped() -> Iterator[Any]:
    """``DQMQ-ResNet-v0``; every test begins with a reset."""
    env = gym.make("DQMQ-ResNet-v0")
    yield env.unwrapped
    env.close()


@pytest.fixture
def tiny(tiny_problem: NetworkProblem) -> BitWidthEnv:
    return BitWidthEnv(tiny_problem)


def finish(env: Any, rng: np.random.Generator) -> tuple[list[Any], float, dict[str, Any]]:
    """Play on at random; return observations, the last reward and the last info."""
    observations, done, reward, info = [], False, 0.0, {}
    while not done:
        observation, reward, done, _, info = env.step(int(rng.integers(env.action_space.n)))
        observations.append(observation)
    return observations, reward, info


# The shipped environment.


def test_spaces_are_those_of_the_documentation(shipped: Any) -> None:
    assert shipped.action_space == gym.spaces.Discrete(7)
    assert shipped.observation_space == gym.spaces.Box(0.0, 1.0, (31,), np.float32)
    assert shipped.core.candidates == (2, 3, 4, 5, 6, 7, 8)
    layout = shipped.core.observer.layout
    parts = {"quality": (0, 6), "activation": (6, 10), "layer": (10, 19), "error": (19, 26)}
    for part, (start, stop) in parts.items():
        assert layout.part(part) == slice(start, stop)
    progress = ["index", "spent", "slack", "previous", "activation"]
    assert [layout.place(f"progress.{name}") for name in progress] == [26, 27, 28, 29, 30]
    pinned = [name for name, widths in shipped.problem.candidates.items() if widths == (8,)]
    assert pinned == ["conv1", "fc"]


@pytest.mark.parametrize("seed", [0, 1])
def test_progress_is_as_documented(shipped: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layout = shipped.core.observer.layout
    first, _ = shipped.reset(seed=seed)
    later, _, info = finish(shipped, rng)
    observations = [first, *later]
    assert len(observations) == 19
    bits = [LayerBits(*pair) for pair in info["assignment"].values()]
    specs = shipped.problem.layers
    whole = sum(spec.macs * 64 for spec in specs)
    for decision, observation in enumerate(observations):
        # the first layer is not decided, and the last one follows the last decision at once
        done = decision + 1 if decision < 18 else 20
        spent = sum(Bops().of(*pair) for pair in zip(specs[:done], bits[:done], strict=True))
        previous = 0 if decision == 0 else bits[decision].weight
        seen = dict(zip(layout.names, observation.tolist(), strict=True))
        assert seen["progress.index"] == pytest.approx(decision / 18)
        assert seen["progress.spent"] == pytest.approx(spent / whole, abs=1e-6)
        assert seen["progress.previous"] == pytest.approx(previous / 8)
        assert seen["progress.slack"] == 1  # no budget binds
        assert seen["progress.activation"] == 0  # decisions are joint
        assert np.array_equal(observation[layout.part("quality")], first[layout.part("quality")])


def test_features_of_a_layer_are_as_documented(shipped: Any) -> None:
    layout = shipped.core.observer.layout
    observation, _ = shipped.reset(seed=0)
    seen = dict(zip(layout.names, observation.tolist(), strict=True))
    spec = shipped.problem.layers[1]
    total = sum(other.weights for other in shipped.problem.layers)
    assert seen["layer.depthwise"] == 0
    assert seen["layer.in_channels"] == pytest.approx(16 / 64)
    assert seen["layer.stride"] == pytest.approx(1 / 2)
    assert seen["layer.kernel"] == 1
    assert seen["layer.weights"] == pytest.approx(spec.weights / (64 * 64 * 9))
    assert seen["layer.input_size"] == 1
    assert seen["layer.size_share"] == pytest.approx(spec.weights / total, rel=1e-5)
    errors = observation[layout.part("error")]
    assert np.allclose(errors, shipped.problem.weight_error(spec.name))
    assert bool((np.diff(errors) < 0).all())


def test_the_reported_assignment_can_be_replayed(shipped: Any) -> None:
    for seed, condition in enumerate(["clean", "gaussian_noise/3", "jpeg/5"]):
        _, drawn = shipped.reset(seed=seed, options={"condition": condition, "batch": seed})
        assert drawn == {"condition": condition, "batch": seed}
        _, reward, info = finish(shipped, np.random.default_rng(seed))
        assert info["condition"] == condition
        assignment = BitAssignment({n: (w, a) for n, (w, a) in info["assignment"].items()})
        problem = shipped.problem
        images, labels = problem.batch(PassKey("search", Condition.parse(condition), seed))
        with torch.no_grad():
            logits = problem.quantized(problem.normalize(images), assignment)
        assert judge(logits, labels) == (info["accuracy"], info["loss"])
        assert problem.cost(assignment) == pytest.approx(info["costs"])
        expected = 0.8 * info["accuracy"] + 0.2 * (1 - problem.cost(assignment)["bops"])
        assert reward == pytest.approx(expected)


def test_more_bits_are_more_accurate_and_noise_costs_accuracy(shipped: Any) -> None:
    def end(action: int, condition: str) -> dict[str, Any]:
        shipped.reset(options={"condition": condition, "batch": 0})
        for _ in range(18):
            info: dict[str, Any] = shipped.step(action)[4]
        return info

    clean, noisy = ([end(k, c) for k in (0, 6)] for c in ("clean", "gaussian_noise/5"))
    assert clean[1]["accuracy"] > 0.85
    assert clean[1]["accuracy"] > noisy[1]["accuracy"] + 0.05
    assert clean[1]["loss"] < clean[0]["loss"] - 0.01
    # two bits are nearly enough for clean images, but not for noisy ones
    assert noisy[1]["loss"] < noisy[0]["loss"] - 0.05
    assert noisy[1]["accuracy"] > noisy[0]["accuracy"] + 0.02


def test_it_can_be_pickled_fresh_and_midway(shipped: Any) -> None:
    shipped.reset(seed=5)
    for action in (1, 6, 3):
        shipped.step(action)
    other = pickle.loads(pickle.dumps(shipped))
    for action in [0, 6] * 7 + [2]:
        one, two = shipped.step(action), other.step(action)
        assert np.array_equal(one[0], two[0])
        assert one[1:] == two[1:]
    one, two = shipped.reset(), other.reset()
    assert np.array_equal(one[0], two[0])
    assert one[1] == two[1]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"checkpoint": "resnet999"}, CheckpointError, "resnet999"),
        ({"weight": 2.0}, SettingError, "weight: got 2.0"),
        ({"cost": "flops"}, SettingError, "cost: got 'flops'"),
        ({"bits": [2, 9]}, DQMQError, "bits: got 9"),
        ({"bits": [4]}, DQMQError, "candidates"),
        ({"activation_bits": 9}, DQMQError, "bits: got 9"),
        ({"decisions": "both"}, SettingError, "decisions: got 'both'"),
        ({"budget": 0.01}, DQMQError, "budget: got 0.01"),
        ({"batch_size": 0}, DQMQError, "batch_size: got 0"),
        ({"conditions": {"fog/3": 1}}, ConditionError, "fog"),
        ({"data": "/nowhere"}, DQMQError, "root: found no"),
        ({"colour": 1}, SettingError, "colour"),
        ({"actions": "spoken"}, SettingError, "spoken"),
        ({"render_mode": "movie"}, Exception, "movie"),
    ],
)
def test_wrong_settings_are_refused_when_it_is_made(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    from dqmq_env.envs.resnet import ResNetEnv

    with pytest.raises(error, match=message):
        ResNetEnv(**settings)


# Resets.


def test_a_reset_draws_from_the_mixture_and_the_batches(tiny: BitWidthEnv) -> None:
    drawn = [tiny.reset(seed=seed)[1] for seed in range(40)]
    assert {info["condition"] for info in drawn} == {"clean", "gaussian_noise/3", "jpeg/5"}
    assert {info["batch"] for info in drawn} == {0, 1}


def test_options_fix_what_is_drawn_and_leave_later_draws_alone(tiny: BitWidthEnv) -> None:
    free = [tiny.reset(seed=9)[1], *(tiny.reset()[1] for _ in range(5))]
    fixed, info = tiny.reset(seed=9, options={"condition": "shot_noise/2", "batch": 1})
    assert info == {"condition": "shot_noise/2", "batch": 1}
    assert [tiny.reset()[1] for _ in range(5)] == free[1:]
    again, _ = tiny.reset(options={"condition": "shot_noise/2", "batch": 1})
    assert np.array_equal(fixed, again)
    half, _ = tiny.reset(options={"condition": "shot_noise/2", "batch": 0})
    assert not np.array_equal(fixed, half)


def test_options_are_not_changed(tiny: BitWidthEnv) -> None:
    options = {"condition": "clean", "batch": 1}
    tiny.reset(options=options)
    assert options == {"condition": "clean", "batch": 1}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"condition": "fog/3"}, ConditionError, "fog"),
        ({"condition": "gaussian_noise/6"}, ConditionError, "severity: got '6'"),
        ({"condition": "gaussian_noise"}, ConditionError, "severity"),
        ({"condition": None}, ConditionError, "None"),
        ({"condition": 3}, ConditionError, "3"),
        ({"batch": 2}, SettingError, "allowed are 0 to 1"),
        ({"batch": -1}, SettingError, "allowed are 0 to 1"),
        ({"batch": 0.0}, SettingError, "allowed are 0 to 1"),
        ({"batch": "0"}, SettingError, "allowed are 0 to 1"),
        ({"batch": None}, SettingError, "allowed are 0 to 1"),
        ({"severity": 3}, SettingError, "'severity'.*allowed are 'condition' and 'batch'"),
    ],
)
def test_other_options_are_refused(
    tiny: BitWidthEnv, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    tiny.reset(seed=0)
    tiny.step(1)
    with pytest.raises(error, match=message):
        tiny.reset(options=options)
    # the episode that was running still does
    assert tiny.step(1)[0].shape == tiny.observation_space.shape


def test_a_reset_midway_begins_anew(tiny: BitWidthEnv) -> None:
    fresh, _ = tiny.reset(seed=2)
    rng = np.random.default_rng(0)
    _, reward, info = finish(tiny, rng)
    tiny.reset(seed=2)
    tiny.step(2)
    tiny.step(0)
    again, _ = tiny.reset(seed=2)
    assert np.array_equal(fresh, again)
    _, reward_again, info_again = finish(tiny, np.random.default_rng(0))
    assert (reward, info) == (reward_again, info_again)


# Steps.


@pytest.mark.parametrize(
    "action",
    [
        -1,
        3,
        1.0,
        np.float32(1),
        float("nan"),
        True,
        None,
        "1",
        [1],
        np.array([1]),
        np.array([0, 1]),
        {},
        2**70,
    ],
    ids=repr,
)
def test_other_actions_are_refused_and_change_nothing(tiny: BitWidthEnv, action: Any) -> None:
    tiny.reset(seed=0)
    expected = tiny.step(1)[0]
    tiny.reset(seed=0)
    with pytest.raises(ActionError, match="action: got"):
        tiny.step(action)
    assert np.array_equal(tiny.step(1)[0], expected)


@pytest.mark.parametrize("action", [1, np.int8(1), np.int64(1), np.uint8(1), np.array(1)])
def test_integers_of_all_kinds_are_actions(tiny: BitWidthEnv, action: Any) -> None:
    tiny.reset(seed=0)
    previous = tiny.core.observer.layout.place("progress.previous")
    assert tiny.step(action)[0][previous] == np.float32(4 / 8)


def test_steps_outside_of_an_episode_are_refused(tiny: BitWidthEnv) -> None:
    with pytest.raises(RuntimeError, match="reset"):
        tiny.step(0)
    tiny.reset(seed=0)
    finish(tiny, np.random.default_rng(0))
    with pytest.raises(RuntimeError, match="reset"):
        tiny.step(0)
    tiny.reset()
    assert not tiny.step(0)[2]


def test_closing_twice_does_no_harm(tiny: BitWidthEnv) -> None:
    tiny.reset(seed=0)
    tiny.close()
    tiny.close()


@settings(max_examples=15)
@given(
    weight=st.floats(0, 1),
    cost=st.sampled_from(["size", "bops"]),
    seed=st.integers(0, 99),
)
def test_the_reward_is_its_formula(
    tiny_problem: NetworkProblem, weight: float, cost: str, seed: int
) -> None:
    env = BitWidthEnv(tiny_problem, Task(WeightedReward(cost, weight)))
    env.reset(seed=seed)
    _, reward, info = finish(env, np.random.default_rng(seed))
    assert reward == pytest.approx(
        (1 - weight) * info["accuracy"] + weight * (1 - info["costs"][cost])
    )
    assert 0 <= reward <= 1


@settings(max_examples=10)
@given(seed=st.integers(0, 999))
def test_features_stay_between_zero_and_one(tiny_problem: NetworkProblem, seed: int) -> None:
    env = BitWidthEnv(tiny_problem)
    first, _ = env.reset(seed=seed, options={"condition": "gaussian_noise/5"})
    later, _, _ = finish(env, np.random.default_rng(seed))
    for observation in (first, *later):
        assert env.observation_space.contains(observation)
        assert bool(((observation >= 0) & (observation <= 1)).all())


def test_an_agent_sees_what_its_bits_made_of_the_images(tiny: BitWidthEnv) -> None:
    activation = tiny.core.observer.layout.part("activation")
    tiny.reset(seed=0)
    low = tiny.step(0)[0]
    tiny.reset(seed=0)
    high = tiny.step(2)[0]
    assert not np.array_equal(low[activation], high[activation])


@pytest.mark.parametrize("steps", [None, 0, 1, 4, 6])
@pytest.mark.parametrize("clone", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy])
def test_clones_go_on_in_the_same_way(
    make_tiny_problem: MakeProblem, steps: int | None, clone: Callable[[Any], Any]
) -> None:
    """Before the first reset, after it, in mid-episode, and after the end."""
    env = BitWidthEnv(make_tiny_problem(), render_mode="ansi")
    if steps is not None:
        env.reset(seed=11)
        for step in range(steps):
            env.step(step % 3)
    other = clone(env)
    if steps is None:
        one, two = env.reset(seed=3), other.reset(seed=3)
    else:
        for step in range(steps, 6):
            one, two = env.step(step % 2), other.step(step % 2)
            assert np.array_equal(one[0], two[0])
            assert one[1:] == two[1:]
            assert env.render() == other.render()
        one, two = env.reset(), other.reset()
    assert np.array_equal(one[0], two[0])
    assert one[1] == two[1]


# Pictures.


@pytest.mark.parametrize("steps", [0, 3, 6])
def test_render_modes(tiny_problem: NetworkProblem, steps: int) -> None:
    text = BitWidthEnv(tiny_problem, render_mode="ansi")
    picture = BitWidthEnv(tiny_problem, render_mode="rgb_array")
    for env in (text, picture):
        env.reset(seed=0, options={"condition": "jpeg/5"})
        for _ in range(steps):
            env.step(2)
    drawn = text.render()
    assert isinstance(drawn, str)
    assert "jpeg/5" in drawn
    assert "layer1.0.conv1" in drawn
    image = picture.render()
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert not np.shares_memory(image, picture.render())


def test_rendering_needs_a_mode_and_a_reset(tiny_problem: NetworkProblem) -> None:
    silent = BitWidthEnv(tiny_problem)
    silent.reset(seed=0)
    with pytest.raises(RuntimeError, match="render_mode"):
        silent.render()
    with pytest.raises(RuntimeError, match="reset"):
        BitWidthEnv(tiny_problem, render_mode="ansi").render()
    with pytest.raises(SettingError, match="render_mode: got 'movie'"):
        BitWidthEnv(tiny_problem, render_mode="movie")
