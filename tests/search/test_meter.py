import numpy as np
import pytest

from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.envs.vector import BitWidthVectorEnv
from dqmq_env.errors import SearchError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.meter import MeteredProblem, Spent
from dqmq_env.task.task import Task

TABLE = TableProblem(load_table("resnet8-fashion-mnist"))


def test_an_episode_is_an_evaluation_with_its_record() -> None:
    problem = MeteredProblem(TABLE)
    env = BitWidthEnv(problem, Task())
    env.reset(seed=0, options={"condition": "jpeg/3"})
    for action in (0, 1, 2, 3, 4, 0):
        assert problem.spent == Spent()
        *_, info = env.step(action)
    assert problem.spent == Spent(1, 2000, 0)
    (trial,) = problem.trials
    assert (trial.spent, str(trial.condition)) == (1, "jpeg/3")
    assert trial.assignment == BitAssignment(info["assignment"])
    assert (trial.accuracy, trial.loss) == (info["accuracy"], info["loss"])


def test_episodes_in_step_count_each() -> None:
    problem = MeteredProblem(TABLE, 7)
    env = BitWidthVectorEnv(3, problem, Task())
    env.reset(seed=0)
    for _ in range(12):
        env.step(env.action_space.sample())
    assert problem.spent.evaluations == 6
    assert [trial.spent for trial in problem.trials] == [1, 2, 3, 4, 5, 6]
    assert problem.left == 1
    for _ in range(5):
        env.step(np.zeros(3, np.int64))
    with pytest.raises(SearchError, match="6 of 7 are spent, 3 more were asked for"):
        env.step(np.zeros(3, np.int64))
    assert problem.spent.evaluations == 6


def test_an_evaluation_counts_all_batches(tiny_problem: NetworkProblem) -> None:
    problem = MeteredProblem(tiny_problem, 4)
    assignment = tiny_problem.uniform(4)
    outcome = problem.evaluate(assignment, "clean")
    assert outcome.accuracy == tiny_problem.evaluate(assignment, "clean").accuracy
    assert problem.spent == Spent(2, 40)
    problem.count(Spent(images_trained=30))
    problem.evaluate(assignment, "clean")
    assert problem.spent == Spent(4, 80, 30)
    with pytest.raises(SearchError, match="4 of 4 are spent"):
        problem.evaluate(assignment, "clean")


def test_a_search_does_not_see_the_test_split() -> None:
    problem = MeteredProblem(TABLE)
    with pytest.raises(SearchError, match="'test'"):
        problem.evaluate(TABLE.assignment(0), "clean", "test")
    assert problem.spent == Spent()
