"""Fixed precision: the same bits for every layer and every image."""

from pathlib import Path

from dqmq_env.evaluation.deployed import StaticNetwork
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.scheme import DEFAULT_SCHEME, Scheme
from dqmq_env.training.fine_tune import fine_tune
from dqmq_env.training.loop import Callback, Schedule


def train_uniform(
    problem: NetworkProblem,
    bits: int,
    schedule: Schedule,
    folder: Path | None = None,
    callback: Callback | None = None,
    progress_bar: bool = False,
    scheme: Scheme = DEFAULT_SCHEME,
) -> StaticNetwork:
    """Train the problem's network at uniform bits (layers without a choice keep theirs).

    Args:
        problem: gives the float network, images and mixture.
        bits: one of the candidates.
        schedule: how long and how fast.
        folder: of resumable states and TensorBoard events; ``None`` keeps nothing.
        callback: see :data:`~dqmq_env.training.loop.Callback`.
        progress_bar: show steps, rate and time left.
        scheme: LSQ, which is the default, or one of
            :data:`~dqmq_env.quantization.scheme_names.SCHEMES`.

    Raises:
        AssignmentError: ``bits`` is not a candidate.
    """
    assignment = problem.uniform(bits)
    return fine_tune(problem, assignment, schedule, folder, callback, progress_bar, scheme)
