import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env.costs import Bops, fraction
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.envs.vector import BitWidthVectorEnv
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.task.budget import Budget
from dqmq_env.task.task import Task


@pytest.mark.parametrize(("form", "size"), [("discrete", 3), ("continuous", 3), ("one-shot", 18)])
def test_masks_have_the_shape_that_maskable_ppo_expects(
    tiny_problem: NetworkProblem, form: str, size: int
) -> None:
    env = BitWidthEnv(tiny_problem, actions=form)
    assert env.core.decisions == 6
    assert env.action_masks().shape == (size,)
    assert env.action_masks().all()
    env.reset(seed=0)
    assert env.action_masks().shape == (size,)
    assert BitWidthVectorEnv(2, tiny_problem, actions=form).action_masks().shape == (2, size)


@settings(deadline=None, max_examples=25)
@given(budget=st.floats(0.13, 1.0))
def test_a_one_shot_index_is_allowed_where_the_rest_can_be_lowest(
    tiny_problem: NetworkProblem, budget: float
) -> None:
    task = Task(budget=Budget(Bops(), budget))
    env = BitWidthEnv(tiny_problem, task, "one-shot")
    env.reset(seed=0)
    masks = env.action_masks().reshape(6, 3)
    names = [layer.name for layer in tiny_problem.layers]
    for decision in range(6):
        for index, width in enumerate(env.core.candidates):
            bits = [2] * 6
            bits[decision] = width
            widths = dict(zip(names, [8, *bits, 8], strict=True))
            assignment = BitAssignment({n: (b, b) for n, b in widths.items()})
            cost = fraction(Bops(), tiny_problem.layers, assignment)
            if abs(cost - budget) > 1e-9:
                assert masks[decision, index] == (cost <= budget)


def test_a_reported_assignment_is_taken_back_as_it_is(tiny_problem: NetworkProblem) -> None:
    env = BitWidthEnv(tiny_problem, actions="one-shot")
    env.reset(seed=0)
    info = env.step(np.array([0, 1, 2, 0, 1, 2]))[4]
    assignment = BitAssignment(info["assignment"])
    assert tiny_problem.cost(assignment) == pytest.approx(info["costs"])


@pytest.mark.parametrize("batch", [True, -1, 2, 1.0, "1"])
def test_batches_that_do_not_exist_are_refused(tiny_problem: NetworkProblem, batch: object) -> None:
    with pytest.raises(SettingError, match="batch"):
        BitWidthEnv(tiny_problem).reset(options={"batch": batch})
