"""Fixed precision: the same bits for every layer and every image."""

from pathlib import Path

from dqmq_env.evaluation.deployed import StaticNetwork
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.training.loop import Callback, Schedule, Trainer
from dqmq_env.training.objective import StaticObjective


def train_uniform(
    problem: NetworkProblem,
    bits: int,
    schedule: Schedule,
    folder: Path | None = None,
    callback: Callback | None = None,
    progress_bar: bool = False,
) -> StaticNetwork:
    """Train the problem's network with LSQ at uniform bits (layers without a choice keep theirs).

    Args:
        problem: gives the float network, images and mixture.
        bits: one of the candidates.
        schedule: how long and how fast.
        folder: of resumable states and TensorBoard events; ``None`` keeps nothing.
        callback: see :data:`~dqmq_env.training.loop.Callback`.
        progress_bar: show steps, rate and time left.

    Raises:
        AssignmentError: ``bits`` is not a candidate.
    """
    network = problem.trainable()
    assignment = network.uniform(bits)
    trainer = Trainer(
        problem, network, StaticObjective(assignment), schedule, folder, name=f"uniform {bits}"
    )
    trainer.run(callback, progress_bar)
    return StaticNetwork(network, assignment, problem.normalize)
