"""A network and images that a user brings, from the constructor to the environment."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import dqmq_env
from dqmq_env.errors import ConditionError, DataError
from dqmq_env.problem.network_problem import NetworkProblem


class Branches(nn.Module):
    """Depthwise, grouped, dilated and strided convolutions, a shared one, a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.shared = nn.Conv2d(8, 8, 1)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu_(self.shared(x) + x)
        x = torch.cat([self.depthwise(x), self.shared(self.grouped(x))], 1)
        return self.head(self.norm(x).mean((2, 3)))


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(count, 3, 16, 16, generator=generator)
    return pixels, torch.randint(4, (count,), generator=generator)


def make(**changes: Any) -> NetworkProblem:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "train": images(40, 1),
        "search": images(20, 2),
        "test": images(12, 3),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "bits": (2, 4, 8),
        "conditions": ["clean", "gaussian_noise/3"],
    }
    return NetworkProblem(Branches().eval(), **(arguments | changes))


def test_it_finds_the_layers_and_answers_directly() -> None:
    problem = make()
    found = {layer.name: layer for layer in problem.layers}
    assert list(found) == ["stem", "shared", "depthwise", "grouped", "head"]
    assert found["depthwise"].kind == "depthwise"
    assert found["shared"].macs == 2 * 8 * 8 * 64
    assignment = problem.uniform(4)
    outcome = problem.evaluate(assignment, "gaussian_noise/3")
    assert 0 <= outcome.accuracy[0] <= 1
    assert outcome.loss[0] > 0
    assert 0 < problem.cost(assignment)["bops"] < problem.cost(assignment)["size"] < 1


def test_evaluation_equals_a_plain_pass() -> None:
    problem = make()
    assignment = problem.uniform(2)
    condition = "gaussian_noise/3"
    corrupted = problem.search.under(condition)
    with torch.no_grad():
        logits = problem.quantized(problem.normalize(corrupted), assignment)
    expected = float((logits.argmax(1) == problem.data.search.labels).double().mean())
    assert problem.evaluate(assignment, condition).accuracy[0] == expected


@pytest.mark.parametrize("cache", [0, 10_000, 2**27])
def test_a_cache_of_any_size_changes_nothing(cache: int) -> None:
    problem, plain = make(cache_bytes=cache, batch_size=8), make(cache_bytes=0, batch_size=8)
    rng = np.random.default_rng(0)
    for _ in range(6):
        bits = rng.choice([2, 4, 8], 3).tolist()
        names = [layer.name for layer in problem.layers]
        widths = dict(zip(names, [8, *bits, 8], strict=True))
        assignment = dqmq_env.BitAssignment({n: (b, b) for n, b in widths.items()})
        one, two = (p.evaluate(assignment, "clean") for p in (problem, plain))
        assert one.accuracy[0] == two.accuracy[0]
        assert one.loss[0] == two.loss[0]
        assert problem.passes.cache.used <= cache


def test_arrays_datasets_and_bytes_give_the_same() -> None:
    pixels, labels = images(20, 2)
    whole = (pixels * 255).round().to(torch.uint8)
    problems = [
        make(search=(pixels, labels)),
        make(search=(pixels.numpy(), labels.numpy())),
        make(search=TensorDataset(pixels, labels)),
        make(search=(whole, labels)),
        make(search=TensorDataset(whole, labels)),
    ]
    for problem in problems:
        assert torch.equal(problem.data.search.images, whole)
        assert torch.equal(problem.data.search.labels, labels)


def test_layers_can_be_left_out() -> None:
    problem = make(exclude=["shared"])
    assert "shared" not in [layer.name for layer in problem.layers]
    assert problem.evaluate(problem.uniform(8), "clean").accuracy.shape == (1,)


@pytest.mark.filterwarnings("ignore:.*render_modes.*")
def test_it_is_an_environment() -> None:
    env = gym.make("dqmq_env:DQMQ-v0", problem=make())
    check_env(env.unwrapped, skip_render_check=True)
    vector = gym.make_vec("dqmq_env:DQMQ-v0", 3, problem=make())
    observations, _ = vector.reset(seed=0)
    expected, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observations[0], expected)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"train": images(40, 1)[0]}, DataError, "train: got Tensor"),
        ({"search": (images(20, 2)[0] * 2, images(20, 2)[1])}, DataError, "search: got values"),
        ({"search": (images(20, 2)[0] * float("nan"), images(20, 2)[1])}, DataError, "nan"),
        ({"search": (images(20, 2)[0], images(20, 2)[1] + 3)}, DataError, "label"),
        ({"search": (images(20, 2)[0], images(20, 2)[1].float())}, DataError, "integers"),
        ({"search": (images(20, 2)[0], images(19, 2)[1])}, DataError, "labels: got 19"),
        ({"search": (images(20, 2)[0][:, :1], images(20, 2)[1])}, DataError, "search"),
        ({"search": (images(20, 2)[0].long(), images(20, 2)[1])}, DataError, "int64"),
        ({"mean": (0.5,), "std": (0.2,)}, DataError, "mean: got 1"),
        ({"conditions": ["fog/3"]}, ConditionError, "fog"),
        ({"conditions": []}, ConditionError, "weights"),
        ({"batch_size": 21}, DataError, "batch_size: got 21"),
        ({"calibration_images": 0}, DataError, "calibration_images: got 0"),
    ],
)
def test_wrong_input_is_refused(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(**changes)
