"""Two decisions for a layer, its weights and then its activation; and weights alone."""

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.common.env_checker as sb3
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env import BitAssignment, BitWidthEnv, Condition, LayerBits, NetworkProblem, Task
from dqmq_env.costs import COSTS, Bops, Cost, Size, reference
from dqmq_env.envs.vector import BitWidthVectorEnv
from dqmq_env.evaluation.accuracy import judge
from dqmq_env.problem.pass_key import PassKey
from dqmq_env.registration import OWN_PROBLEM
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import DecisionScheme, JointDecisions, SeparateDecisions
from dqmq_env.task.reward import CostPotential
from tests.lockstep import assert_lockstep

BITS = (2, 4, 8)
FORMS = ("discrete", "continuous", "one-shot")
SEPARATE = Task(decisions=SeparateDecisions())
action_lists = st.lists(st.integers(0, 2), min_size=12, max_size=12)
shares = st.floats(0, 1)
costs = st.sampled_from(COSTS)


@pytest.fixture(scope="module")
def weights_only(make_tiny_problem: Callable[..., NetworkProblem]) -> NetworkProblem:
    """Weights of 2 or 4 bits, activations of 8, which weights cannot have."""
    return make_tiny_problem(bits=(2, 4), activation_bits=8)


def with_budget(problem: NetworkProblem, cost: Cost, share: float) -> Task:
    """With a budget between the smallest reachable, at ``share`` 0, and 1."""
    low = problem.cost(problem.uniform(2))[cost.name]
    return Task(budget=Budget(cost, low + share * (1 - low)), decisions=SeparateDecisions())


def play(env: BitWidthEnv, actions: list[int], **options: Any) -> dict[str, Any]:
    """Play an episode of the discrete form; return its last reward and info, and all that is seen.

    Observations and masks are those before each step.
    """
    observation, _ = env.reset(seed=0, options=options)
    seen: dict[str, Any] = {"observations": [], "masks": []}
    for number, action in enumerate(actions):
        seen["observations"].append(observation)
        seen["masks"].append(env.action_masks())
        observation, reward, terminated, truncated, info = env.step(action)
        assert terminated == (number == len(actions) - 1)
        assert not truncated
    return seen | {"last": observation, "reward": reward, "info": info}


def assignment_of(info: dict[str, Any]) -> BitAssignment:
    return BitAssignment(info["assignment"])


def decided(info: dict[str, Any]) -> list[tuple[int, int]]:
    """The pairs of all layers but the first and the last."""
    return [(weight, activation) for weight, activation in info["assignment"].values()][1:-1]


def pairwise(actions: list[int]) -> list[tuple[int, int]]:
    widths = [BITS[action] for action in actions]
    return list(zip(widths[::2], widths[1::2], strict=True))


# What an episode is about.


def test_a_decided_layer_takes_two_steps(tiny_problem: NetworkProblem) -> None:
    env = BitWidthEnv(tiny_problem, SEPARATE)
    assert env.core.decisions == 12
    assert env.core.candidates == BITS
    assert env.action_space == gym.spaces.Discrete(3)
    assert env.observation_space.shape == (24 + 3,)
    assert BitWidthEnv(tiny_problem, SEPARATE, "one-shot").action_space == (
        gym.spaces.MultiDiscrete([3] * 12)
    )
    play(env, [0] * 12)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(0)


@settings(max_examples=20)
@given(
    actions=action_lists,
    condition=st.sampled_from(["clean", "gaussian_noise/3"]),
    batch=st.integers(0, 1),
)
def test_what_is_reported_is_what_was_chosen(
    tiny_problem: NetworkProblem, actions: list[int], condition: str, batch: int
) -> None:
    env = BitWidthEnv(tiny_problem, SEPARATE)
    played = play(env, actions, condition=condition, batch=batch)
    info = played["info"]
    assert list(info["assignment"]) == [spec.name for spec in tiny_problem.layers]
    assert decided(info) == pairwise(actions)
    assert info["assignment"]["conv1"] == info["assignment"]["fc"] == [8, 8]
    assert info["lowered"] == 0
    # and its worth is that of a plain pass
    assignment = assignment_of(info)
    images, labels = tiny_problem.batch(PassKey("search", Condition.parse(condition), batch))
    with torch.no_grad():
        logits = tiny_problem.quantized(tiny_problem.normalize(images), assignment)
    assert (info["accuracy"], info["loss"]) == judge(logits, labels)
    assert tiny_problem.cost(assignment) == pytest.approx(info["costs"])
    expected = 0.8 * info["accuracy"] + 0.2 * (1 - info["costs"]["bops"])
    assert played["reward"] == pytest.approx(expected)


@settings(max_examples=10)
@given(widths=st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_equal_bits_are_worth_what_joint_decisions_about_them_are(
    tiny_problem: NetworkProblem, widths: list[int]
) -> None:
    joint = play(BitWidthEnv(tiny_problem), widths)
    separate = play(BitWidthEnv(tiny_problem, SEPARATE), [k for k in widths for _ in range(2)])
    assert joint["info"] == separate["info"]
    assert joint["reward"] == separate["reward"]


@settings(max_examples=10)
@given(actions=action_lists, cost=costs, share=shares)
def test_all_forms_of_actions_end_alike(
    tiny_problem: NetworkProblem, actions: list[int], cost: Cost, share: float
) -> None:
    task = with_budget(tiny_problem, cost, share)
    expected = play(BitWidthEnv(tiny_problem, task), actions)
    at_once = BitWidthEnv(tiny_problem, task, "one-shot")
    at_once.reset(seed=0)
    last, reward, terminated, _, info = at_once.step(np.array(actions))
    assert terminated
    assert (info, reward) == (expected["info"], expected["reward"])
    assert np.array_equal(last, expected["last"])
    continuous = BitWidthEnv(tiny_problem, task, "continuous")
    continuous.reset(seed=0)
    for action in actions:
        step = continuous.step(np.array([(-1.0, -0.3, 1.0)[action]], np.float32))
    assert (step[4], step[1]) == (expected["info"], expected["reward"])
    assert np.array_equal(step[0], expected["last"])


@pytest.mark.parametrize("seed", range(3))
def test_shaping_leaves_returns_as_they_are(tiny_problem: NetworkProblem, seed: int) -> None:
    shaped = Task(potential=CostPotential(0.2), decisions=SeparateDecisions())
    returns = []
    for task in (SEPARATE, shaped):
        env = BitWidthEnv(tiny_problem, task)
        env.reset(seed=seed)
        rng = np.random.default_rng(seed)
        returns.append(sum(env.step(int(rng.integers(3)))[1] for _ in range(12)))
    assert returns[0] == pytest.approx(returns[1], abs=1e-12)


# What an agent sees.


@settings(max_examples=10)
@given(actions=action_lists, cost=costs)
def test_progress_tells_whose_bits_are_asked_for(
    tiny_problem: NetworkProblem, actions: list[int], cost: Cost
) -> None:
    task = Task(budget=Budget(cost), decisions=SeparateDecisions())
    env = BitWidthEnv(tiny_problem, task)
    layout = env.core.observer.layout
    played = play(env, actions)
    rows = np.stack([*played["observations"], played["last"]]).astype(float)
    assert ((rows >= 0) & (rows <= 1)).all()
    assert rows[:, layout.place("progress.activation")].tolist() == [0, 1] * 6 + [0]
    assert rows[:, layout.place("progress.index")] == pytest.approx(np.arange(13) / 12)
    previous = [0, *(BITS[action] for action in actions)]
    assert rows[:, layout.place("progress.previous")] == pytest.approx(np.array(previous) / 8)
    # weights commit to the cost at the lowest activation bits, activations add the rest
    pairs = iter(pairwise(actions))
    specs, whole = tiny_problem.layers, reference(cost, tiny_problem.layers)
    settled = cost.of(specs[0], LayerBits(8, 8))
    spent = [settled]
    for spec, pair in zip(specs[1:-1], pairs, strict=True):
        spent.append(settled + cost.of(spec, LayerBits(pair[0], 2)))
        settled += cost.of(spec, LayerBits(*pair))
        spent.append(settled)
    spent[-1] += cost.of(specs[-1], LayerBits(8, 8))
    assert rows[:, layout.place("progress.spent")] == pytest.approx(np.array(spent) / whole)
    assert rows[-1, layout.place("progress.spent")] == pytest.approx(
        played["info"]["costs"][cost.name]
    )
    assert (rows[:, layout.place("progress.slack")] == 1).all()  # no budget binds


def test_errors_are_those_of_what_is_decided(tiny_problem: NetworkProblem) -> None:
    env = BitWidthEnv(tiny_problem, SEPARATE)
    errors = env.core.observer.layout.part("error")
    rows = play(env, [0, 2] * 6)["observations"]
    for number, row in enumerate(rows):
        name = tiny_problem.layers[1 + number // 2].name
        asked = tiny_problem.activation_error if number % 2 else tiny_problem.weight_error
        np.testing.assert_allclose(row[errors], asked(name), rtol=1e-6)
    assert not np.allclose(rows[0][errors], rows[1][errors])


def test_a_layer_is_computed_when_both_of_its_bits_are_known(tiny_problem: NetworkProblem) -> None:
    env = BitWidthEnv(tiny_problem, SEPARATE)
    layout = env.core.observer.layout
    own = [layout.part(part) for part in ("quality", "activation", "layer")]
    rows = play(env, [1, 0] * 6)["observations"]
    for weight, activation in zip(rows[::2], rows[1::2], strict=True):
        for part in own:
            assert np.array_equal(weight[part], activation[part])
    # what follows depends on both
    received = [
        play(env, actions + [0] * 10)["observations"][2][layout.part("activation")]
        for actions in ([0, 0], [2, 0], [0, 2])
    ]
    assert not np.array_equal(received[0], received[1])
    assert not np.array_equal(received[0], received[2])


def test_pictures_show_a_layer_once_it_is_decided(tiny_problem: NetworkProblem) -> None:
    env = BitWidthEnv(tiny_problem, SEPARATE, render_mode="ansi")
    env.reset(seed=0)

    def shown() -> str:
        (row,) = (line for line in env.render().splitlines() if "layer1.0.conv1" in line)
        return str(row).split()[-1]

    assert shown() == "?"
    env.step(0)
    assert shown() == "?"
    env.step(2)
    assert shown() == "2/8"
    picture = BitWidthEnv(tiny_problem, SEPARATE, render_mode="rgb_array")
    play(picture, [0, 2] * 6)
    assert picture.render().shape == (540, 960, 3)


# Budgets.


def step_up(problem: NetworkProblem, cost: Cost, layer: int, bits: LayerBits, part: int) -> float:
    """What the next wider weights or activation of a layer cost more."""
    wider = list(bits)
    wider[part] = BITS[BITS.index(wider[part]) + 1]
    spec = problem.layers[layer]
    more = cost.of(spec, LayerBits(*wider)) - cost.of(spec, bits)
    return more / reference(cost, problem.layers)


@settings(max_examples=40)
@given(cost=costs, share=shares, actions=action_lists)
def test_no_episode_exceeds_its_budget(
    tiny_problem: NetworkProblem, cost: Cost, share: float, actions: list[int]
) -> None:
    env = BitWidthEnv(tiny_problem, with_budget(tiny_problem, cost, share))
    played = play(env, actions)
    info = played["info"]
    assert info["costs"][cost.name] <= env.core.task.budget.fraction + 1e-9
    # masks agree with what is executed
    executed = [BITS.index(width) for pair in decided(info) for width in pair]
    for action, mask, index in zip(actions, played["masks"], executed, strict=True):
        allowed = [k for k in range(3) if mask[k]]
        assert allowed == list(range(len(allowed)))  # fewer bits are never worse
        assert index == max(k for k in allowed if k <= action)
    assert info["lowered"] == sum(a != e for a, e in zip(actions, executed, strict=True))


@settings(max_examples=30)
@given(cost=costs, share=shares)
def test_wanting_the_most_uses_the_budget_up(
    tiny_problem: NetworkProblem, cost: Cost, share: float
) -> None:
    """What is left is less than what one more step of any lowered decision would have cost."""
    env = BitWidthEnv(tiny_problem, with_budget(tiny_problem, cost, share))
    info = play(env, [2] * 12)["info"]
    left = env.core.task.budget.fraction - info["costs"][cost.name]
    for layer, (weight, activation) in enumerate(decided(info), start=1):
        if weight < 8:  # which was decided when the activation could still be the cheapest
            assert left < step_up(tiny_problem, cost, layer, LayerBits(weight, 2), 0) + 1e-9
        if activation < 8:
            assert (
                left < step_up(tiny_problem, cost, layer, LayerBits(weight, activation), 1) + 1e-9
            )


def test_the_size_leaves_activations_free(tiny_problem: NetworkProblem) -> None:
    played = play(BitWidthEnv(tiny_problem, with_budget(tiny_problem, Size(), 0)), [2] * 12)
    masks = [mask.tolist() for mask in played["masks"]]
    assert masks == [[True, False, False], [True] * 3] * 6
    assert decided(played["info"]) == [(2, 8)] * 6
    assert played["info"]["lowered"] == 6


@settings(max_examples=15)
@given(actions=action_lists, share=shares)
def test_activations_do_not_change_the_size(
    tiny_problem: NetworkProblem, actions: list[int], share: float
) -> None:
    env = BitWidthEnv(tiny_problem, with_budget(tiny_problem, Size(), share))
    spent, slack = (env.core.observer.layout.place(f"progress.{n}") for n in ("spent", "slack"))
    played = play(env, actions)
    rows = [*played["observations"], played["last"]]
    for number in range(1, 11, 2):
        assert rows[number][spent] == rows[number + 1][spent]
        assert rows[number][slack] == rows[number + 1][slack]
    bits = [pair[1] for pair in decided(played["info"])]
    assert bits == [BITS[action] for action in actions[1::2]]


@settings(max_examples=10)
@given(share=shares, cost=costs)
def test_a_one_shot_index_is_allowed_where_the_rest_can_be_lowest(
    tiny_problem: NetworkProblem, share: float, cost: Cost
) -> None:
    task = with_budget(tiny_problem, cost, share)
    env = BitWidthEnv(tiny_problem, task, "one-shot")
    env.reset(seed=0)
    masks = env.action_masks().reshape(12, 3)
    for decision in range(12):
        for index, width in enumerate(BITS):
            bits = dict(tiny_problem.uniform(2))
            name = tiny_problem.layers[1 + decision // 2].name
            bits[name] = LayerBits(2, width) if decision % 2 else LayerBits(width, 2)
            total = tiny_problem.cost(BitAssignment(bits))[cost.name]
            if abs(total - task.budget.fraction) > 1e-9:
                assert masks[decision, index] == (total <= task.budget.fraction)


# Weights alone.


@pytest.mark.parametrize("scheme", [JointDecisions(), SeparateDecisions()])
def test_activations_of_one_width_are_not_decided(
    weights_only: NetworkProblem, scheme: DecisionScheme
) -> None:
    env = BitWidthEnv(weights_only, Task(decisions=scheme))
    assert env.core.decisions == 6
    assert env.observation_space.shape == (24 + 2,)
    played = play(env, [0, 1, 1, 0, 1, 0], condition="jpeg/5", batch=1)
    info = played["info"]
    assert decided(info) == [(2, 8), (4, 8), (4, 8), (2, 8), (4, 8), (2, 8)]
    assignment = assignment_of(info)
    images, labels = weights_only.batch(PassKey("search", Condition.parse("jpeg/5"), 1))
    with torch.no_grad():
        logits = weights_only.quantized(weights_only.normalize(images), assignment)
    assert (info["accuracy"], info["loss"]) == judge(logits, labels)
    assert weights_only.cost(assignment) == pytest.approx(info["costs"])
    layout = env.core.observer.layout
    for number, row in enumerate(played["observations"]):
        assert row[layout.place("progress.activation")] == 0
        error = weights_only.weight_error(weights_only.layers[1 + number].name)
        np.testing.assert_allclose(row[layout.part("error")], error, rtol=1e-6)


@settings(max_examples=20)
@given(cost=costs, share=shares, actions=st.lists(st.integers(0, 1), min_size=6, max_size=6))
def test_budgets_hold_where_activations_have_one_width(
    weights_only: NetworkProblem, cost: Cost, share: float, actions: list[int]
) -> None:
    low, high = (weights_only.cost(weights_only.uniform(bits))[cost.name] for bits in (2, 4))
    budget = low + share * (high - low)
    info = play(BitWidthEnv(weights_only, Task(budget=Budget(cost, budget))), actions)["info"]
    assert info["costs"][cost.name] <= budget + 1e-9
    most = play(BitWidthEnv(weights_only, Task(budget=Budget(cost, budget))), [1] * 6)["info"]
    for spec, (weight, _) in zip(weights_only.layers[1:-1], decided(most), strict=True):
        if weight == 2:
            more = cost.of(spec, LayerBits(4, 8)) - cost.of(spec, LayerBits(2, 8))
            left = budget - most["costs"][cost.name]
            assert left < more / reference(cost, weights_only.layers) + 1e-9


def test_ends_that_are_decided_have_the_width_of_the_others(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = make_tiny_problem(bits=(4, 8), first=None, last=None, activation_bits=6)
    env = BitWidthEnv(problem, SEPARATE)
    info = play(env, [0, 1, 0, 1, 0, 1, 0, 1])["info"]
    assert list(info["assignment"].values()) == [[4, 6], [8, 6]] * 4


# As any other environment.


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("problem", ["tiny_problem", "weights_only"])
def test_checkers_have_nothing_to_say_against_it(
    request: pytest.FixtureRequest, problem: str, form: str
) -> None:
    own = request.getfixturevalue(problem)
    budget = Budget(Bops(), 0.9 * own.cost(own.uniform(4))["bops"])
    task = Task(budget=budget, decisions=SeparateDecisions())
    env = gym.make(OWN_PROBLEM.id, problem=own, task=task, actions=form)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
        sb3.check_env(env.unwrapped)


@settings(max_examples=6)
@given(
    form=st.sampled_from(FORMS),
    count=st.integers(1, 4),
    seed=st.integers(0, 2**31),
    cost=costs,
    share=shares,
)
def test_the_vector_environment_equals_single_ones_step_by_step(
    tiny_problem: NetworkProblem, form: str, count: int, seed: int, cost: Cost, share: float
) -> None:
    task = with_budget(tiny_problem, cost, share)
    vector = BitWidthVectorEnv(count, tiny_problem, task, form)
    singles = [BitWidthEnv(tiny_problem, task, form) for _ in range(count)]
    assert_lockstep(vector, singles, seed, 2 if form == "one-shot" else 14)


@pytest.mark.parametrize("steps", [1, 5, 11])
@pytest.mark.parametrize("clone", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy])
def test_clones_between_weights_and_activation_go_on_in_the_same_way(
    make_tiny_problem: Callable[..., NetworkProblem], steps: int, clone: Callable[[Any], Any]
) -> None:
    problem = make_tiny_problem()
    task = with_budget(problem, Bops(), 0.3)
    env = BitWidthEnv(problem, task, render_mode="ansi")
    env.reset(seed=11)
    for step in range(steps):
        env.step((step + 1) % 3)
    other = clone(env)
    for step in range(steps, 12):
        assert np.array_equal(env.action_masks(), other.action_masks())
        one, two = env.step(step % 3), other.step(step % 3)
        assert np.array_equal(one[0], two[0])
        assert one[1:] == two[1:]
        assert env.render() == other.render()
    assert one[2]
    one, two = env.reset(), other.reset()
    assert np.array_equal(one[0], two[0])
    assert one[1] == two[1]


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_a_reset_in_between_begins_anew(tiny_problem: NetworkProblem, steps: int) -> None:
    env = BitWidthEnv(tiny_problem, with_budget(tiny_problem, Bops(), 0.4))
    actions = [2, 1, 0] * 4
    expected = play(env, actions)
    env.reset(seed=1)
    for _ in range(steps):
        env.step(2)
    again = play(env, actions)
    np.testing.assert_array_equal(again["observations"], expected["observations"])
    np.testing.assert_array_equal(again["masks"], expected["masks"])
    assert (again["info"], again["reward"]) == (expected["info"], expected["reward"])


def test_a_registered_id_takes_its_decisions_separately() -> None:
    env = gym.make(
        "DQMQ-ResNet8-v0",
        decisions="separate",
        bits=[2, 4, 8],
        batch_size=25,
        conditions=["clean", "contrast/4"],
        cost="size",
        budget=0.5,
    )
    assert env.spec is not None
    assert EnvSpec.from_json(env.spec.to_json()) == env.spec
    env.reset(seed=0)
    bits: list[int] = []
    terminated = False
    while not terminated:
        _, _, terminated, _, info = env.step(2 if len(bits) % 2 else 0)
        bits.append(8 if len(bits) % 2 else 2)
    assert len(bits) == 12
    assert decided(info) == [(2, 8)] * 6
    problem = env.unwrapped.problem  # type: ignore[attr-defined]
    assert problem.cost(assignment_of(info)) == pytest.approx(info["costs"])
    env.close()


def test_a_registered_id_takes_one_width_for_activations() -> None:
    settings = {"bits": [2, 3], "activation_bits": 6, "batch_size": 25, "conditions": ["clean"]}
    env = gym.make("DQMQ-ResNet8-OneShot-v0", **settings)
    assert env.action_space == gym.spaces.MultiDiscrete([2] * 6)
    env.reset(seed=0)
    info = env.step(np.array([0, 1] * 3))[4]
    assert decided(info) == [(2, 6), (3, 6)] * 3
    env.close()
