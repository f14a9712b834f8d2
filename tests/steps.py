"""What an objective has to work with, outside a trainer."""

from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.batches import Batch
from dqmq_env.training.criterion import Criterion
from dqmq_env.training.objective import Step


def step_of(
    problem: NetworkProblem, batch: Batch, progress: float = 0.0, distillation: float = 0.0
) -> Step:
    x = problem.normalize(batch.images)
    losses = Criterion(problem.network, distillation)(x, batch.labels)
    return Step(x, batch, 0, progress, losses)
