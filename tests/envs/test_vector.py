from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env.costs import Bops
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.envs.vector import BitWidthVectorEnv
from dqmq_env.errors import ActionError, ConditionError, SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.task.budget import Budget
from dqmq_env.task.reward import CostPotential
from dqmq_env.task.task import Task

FORMS = ("discrete", "continuous", "one-shot")


def row(info: dict[str, Any], number: int) -> dict[str, Any]:
    """One episode's part of a vector info, without masks."""
    return {
        key: row(values, number) if isinstance(values, dict) else values[number]
        for key, values in info.items()
        if not key.startswith("_")
    }


@settings(max_examples=6, deadline=None)
@given(
    st.sampled_from(FORMS),
    st.integers(1, 4),
    st.integers(0, 2**31),
    st.floats(0.2, 1.0),
    st.sampled_from([0.0, 0.3]),
)
def test_it_equals_single_environments_step_by_step(
    tiny_problem: NetworkProblem, form: str, count: int, seed: int, budget: float, weight: float
) -> None:
    task = Task(budget=Budget(Bops(), budget), potential=CostPotential(weight))
    vector = BitWidthVectorEnv(count, tiny_problem, task, form)
    singles = [BitWidthEnv(tiny_problem, task, form) for _ in range(count)]
    observations, info = vector.reset(seed=seed)
    expected = [env.reset(seed=seed + i) for i, env in enumerate(singles)]
    vector.action_space.seed(seed)
    for _ in range(vector.core.decisions + 2 if form != "one-shot" else 2):
        assert vector.observation_space.contains(observations)
        np.testing.assert_array_equal(observations, np.stack([obs for obs, _ in expected]))
        assert info["condition"].tolist() == [own["condition"] for _, own in expected]
        masks = np.stack([env.action_masks() for env in singles])
        np.testing.assert_array_equal(info["action_mask"], masks)
        actions = vector.action_space.sample()
        observations, rewards, terminated, truncated, info = vector.step(actions)
        steps = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        assert rewards.tolist() == [step[1] for step in steps]
        assert terminated.tolist() == [step[2] for step in steps]
        assert not truncated.any()
        expected = [(step[0], step[4]) for step in steps]
        if terminated.all():
            finals = np.stack(list(info["final_obs"]))
            np.testing.assert_array_equal(finals, np.stack([step[0] for step in steps]))
            for number, step in enumerate(steps):
                own = row(info["final_info"], number)
                assert own["accuracy"] == step[4]["accuracy"]
                assert own["costs"] == step[4]["costs"]
                assert {n: list(b) for n, b in own["assignment"].items()} == step[4]["assignment"]
            expected = [env.reset() for env in singles]


def test_seeds_repeat_and_differ(tiny_problem: NetworkProblem) -> None:
    vector = BitWidthVectorEnv(6, tiny_problem)
    first, _ = vector.reset(seed=1)
    other, _ = vector.reset(seed=2)
    again, _ = vector.reset(seed=1)
    listed, _ = vector.reset(seed=[1, 2, 3, 4, 5, 6])  # type: ignore[arg-type]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, listed)
    assert not np.array_equal(first, other)


def test_no_memory_is_shared_between_calls(tiny_problem: NetworkProblem) -> None:
    vector = BitWidthVectorEnv(2, tiny_problem)
    observations, info = vector.reset(seed=0)
    kept = (observations.copy(), info["action_mask"].copy())
    returned = vector.step(np.array([0, 1]))
    assert not np.shares_memory(observations, returned[0])
    assert not np.shares_memory(info["action_mask"], returned[4]["action_mask"])
    np.testing.assert_array_equal(observations, kept[0])
    np.testing.assert_array_equal(info["action_mask"], kept[1])


def test_it_declares_its_autoreset_mode(tiny_problem: NetworkProblem) -> None:
    vector = BitWidthVectorEnv(2, tiny_problem)
    assert vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_wrong_input_is_refused(tiny_problem: NetworkProblem) -> None:
    with pytest.raises(SettingError, match="num_envs"):
        BitWidthVectorEnv(0, tiny_problem)
    vector = BitWidthVectorEnv(2, tiny_problem)
    with pytest.raises(RuntimeError, match="reset"):
        vector.step(np.array([0, 0]))
    with pytest.raises(ConditionError):
        vector.reset(options={"condition": "fog/3"})
    with pytest.raises(SettingError, match="seed"):
        vector.reset(seed=[1])  # type: ignore[arg-type]
    vector.reset()
    with pytest.raises(ActionError):
        vector.step(np.array([0, 3]))
    with pytest.raises(ActionError):
        vector.step(np.array([0]))
