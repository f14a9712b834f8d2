"""The images that a training is judged on when it is over."""

from dqmq_env.errors import DataError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality import DEFAULT_CONDITIONS, DEFAULT_MIXTURE, Condition
from dqmq_env.quality.conditioned import ConditionedImages


def final_images(
    problem: NetworkProblem, count: int
) -> tuple[ConditionedImages, tuple[Condition, ...]]:
    """The first ``test`` images of a problem, and the conditions that they are seen under.

    These are the nine default ones where the problem has the default mixture, else its own.

    Args:
        problem: that was trained on.
        count: of images; all where there are fewer.

    Raises:
        DataError: there are no test images.
    """
    available = len(problem.data.test)
    if not available or count < 1:
        raise DataError(f"test_images: got {min(count, available)}, allowed are 1 and more")
    usual = problem.mixture == DEFAULT_MIXTURE
    conditions = DEFAULT_CONDITIONS if usual else problem.mixture.conditions
    return ConditionedImages(
        problem.data.test.take(min(count, available)), problem.seed
    ), conditions
