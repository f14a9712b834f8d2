import pytest
import torch

from baselines.fixed import train_uniform
from dqmq_env.errors import AssignmentError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.scheme_names import SCHEMES, scheme_by_name
from dqmq_env.training.loop import Schedule

SCHEDULE = Schedule(images=20 * 32, batch=32)


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_training_lowers_the_loss_of_two_bits(tiny_problem: NetworkProblem, name: str) -> None:
    images, labels = tiny_problem.data.train.images, tiny_problem.data.train.labels
    scheme = scheme_by_name(name)
    untrained = train_uniform(tiny_problem, 2, Schedule(images=1, batch=32), scheme=scheme)
    trained = train_uniform(tiny_problem, 2, SCHEDULE, scheme=scheme)
    losses = [
        float(torch.nn.functional.cross_entropy(network(images).logits, labels))
        for network in (untrained, trained)
    ]
    assert losses[1] < losses[0]


def test_bits_and_cost_are_those_of_the_assignment(tiny_problem: NetworkProblem) -> None:
    prediction = train_uniform(tiny_problem, 4, Schedule(images=1, batch=32))(
        tiny_problem.data.test.images[:3]
    )
    assert (prediction.bits[:, 1:-1] == 4).all()
    assert (prediction.bits[:, [0, -1]] == 8).all()
    uniform = tiny_problem.quantized.uniform(4)
    assert prediction.cost.tolist() == pytest.approx([tiny_problem.cost(uniform)["bops"]] * 3)


def test_bits_that_are_no_candidate_are_refused(tiny_problem: NetworkProblem) -> None:
    with pytest.raises(AssignmentError, match="got 9"):
        train_uniform(tiny_problem, 9, SCHEDULE)
