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
from tests.lockstep import assert_lockstep

FORMS = ("discrete", "continuous", "one-shot")


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
    steps = 2 if form == "one-shot" else vector.core.decisions + 2
    assert_lockstep(vector, singles, seed, steps)


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
