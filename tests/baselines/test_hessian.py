from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from baselines.hessian import HessianILP, measure_traces, sensitivities
from baselines.traces import Forms, Precision, hessian_traces, hutchinson
from dqmq_env.costs import Bops
from dqmq_env.envs.tabular import TabularSetting
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.space import Space
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import SeparateDecisions
from dqmq_env.task.reward import AccuracyReward
from dqmq_env.task.task import Task

SHAPES = [(3, 2), (4,)]
TASK = Task(AccuracyReward(), Budget(Bops(), 0.3))
QUICK = HessianILP(images=40, probes=8, budgets=4)


def forms_of(*blocks: Tensor) -> Forms:
    """Those of known matrices."""

    def forms(vectors: Mapping[int, Sequence[Tensor]]) -> dict[int, list[float]]:
        return {
            layer: [float(v.reshape(-1) @ blocks[layer] @ v.reshape(-1)) for v in own]
            for layer, own in vectors.items()
        }

    return forms


def symmetric(size: int) -> Tensor:
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(size))
    return root @ root.T


def test_the_trace_of_a_known_matrix_is_found() -> None:
    blocks = symmetric(6), symmetric(4)
    traces = hutchinson(forms_of(*blocks), SHAPES, Precision(1e-9, 4000), seed=0)
    exact = [float(block.trace()) for block in blocks]
    assert traces.probes.tolist() == [4000, 4000]
    assert (np.abs(traces.mean - exact) < 4 * traces.standard_error).all()
    assert (traces.relative_error < 0.03).all()


def test_a_diagonal_matrix_takes_the_fewest_vectors() -> None:
    blocks = torch.diag(torch.arange(6.0)), symmetric(4)
    traces = hutchinson(forms_of(*blocks), SHAPES, Precision(1e-9, 20), seed=0)
    assert traces.mean[0] == 15
    assert traces.probes.tolist() == [8, 20]
    assert traces.gradients == 28 + 3


@pytest.mark.parametrize("scale", [1e-8, 1e6])
def test_the_scale_of_the_loss_does_not_matter(scale: float) -> None:
    precision = Precision(0.05, 10_000)
    plain, scaled = (
        hutchinson(forms_of(symmetric(6) * own, symmetric(4) * own), SHAPES, precision, seed=1)
        for own in (1, scale)
    )
    assert plain.probes.tolist() == scaled.probes.tolist()
    assert ((plain.probes > 8) & (plain.probes < 10_000)).all()
    assert (plain.relative_error < 0.05).all()
    assert scaled.mean == pytest.approx(plain.mean * scale, rel=1e-4)


def test_a_trace_of_zero_has_an_infinite_error() -> None:
    zeros = torch.zeros(6, 6), torch.zeros(4, 4)
    traces = hutchinson(forms_of(*zeros), SHAPES, Precision(0.1, 16), seed=0)
    assert traces.mean.tolist() == [0, 0]
    assert traces.relative_error.tolist() == [np.inf, np.inf]
    assert traces.probes.tolist() == [16, 16]


class TinyNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(2)
        self.linear = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.conv(x))).mean((2, 3))
        return self.linear(x)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def tiny() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    x, labels = torch.randn(10, 1, 5, 5), torch.arange(10) % 3
    network = TinyNetwork()
    network(x * 3 + 1)  # moves the statistics of the norm away from those of x
    return network.eval(), x, labels


def test_traces_are_those_of_the_whole_hessian(tiny: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, x, labels = tiny
    names = ["conv", "linear"]
    exact = []
    for name in names:

        def loss(weight: Tensor, name: str = name) -> Tensor:
            logits = functional_call(network, {f"{name}.weight": weight}, (x,))
            return F.cross_entropy(logits, labels)

        weight = network.get_submodule(name).get_parameter("weight").detach()
        hessian = torch.autograd.functional.hessian(loss, weight)
        exact.append(float(hessian.reshape(weight.numel(), -1).trace()))  # type: ignore[union-attr]
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    traces = hessian_traces(network, names, x, labels, Precision(0.01, 1000), part=4)
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert (np.abs(traces.mean - exact) < 4 * traces.standard_error + 1e-6).all()
    assert traces.mean == pytest.approx(exact, rel=0.1)


def test_the_size_of_parts_changes_nothing(tiny: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, x, labels = tiny
    precision = Precision(0.1, 8)
    found = [
        hessian_traces(network, ["conv"], x, labels, precision, part=part).mean for part in (3, 100)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_network_with_attention_has_traces() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 12)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.inner(x).view(len(x), 1, -1, 12).chunk(3, -1)
            return F.scaled_dot_product_attention(q, k, v).mean((1, 2))

    torch.manual_seed(0)
    x = torch.randn(6, 5, 4)
    traces = hessian_traces(Attention(), ["inner"], x, torch.arange(6) % 4, Precision(0.1, 8))
    assert np.isfinite(traces.mean).all()


def test_sensitivity_is_trace_times_squared_error(tiny_problem: NetworkProblem) -> None:
    space = Space(tiny_problem, TASK)
    traces = measure_traces(tiny_problem, space, tiny_problem.mixture, 40, Precision(0.1, 8), 0)
    rows = sensitivities(tiny_problem, space, traces)
    assert len(rows) == len(space.names) == 6
    for name, row, trace in zip(space.names, rows, traces.mean, strict=True):
        layer = next(own for own in tiny_problem.quantized.layers if own.spec.name == name)
        weight = layer.inner.weight
        for bits, harm in zip((2, 4, 8), row.tolist(), strict=True):
            with torch.no_grad():
                error = float((layer.quantized_weight(bits) - weight).square().sum())
            assert harm == pytest.approx(max(trace, 0) / weight.numel() * error, rel=1e-3)


def test_separate_decisions_get_pairs_of_the_same_bits(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    task = Task(AccuracyReward(), Budget(Bops(), 0.3), decisions=SeparateDecisions())
    problem = MeteredProblem(make_tiny_problem(bits=(2, 8)))
    rule = QUICK.search(problem, task, 100, 0).rule
    assert all(bits.weight == bits.activation for own in rule.values() for bits in own.values())


def test_a_search_keeps_to_the_budget_and_counts_gradients(tiny_problem: NetworkProblem) -> None:
    problem = MeteredProblem(tiny_problem, 60)
    rule = QUICK.search(problem, TASK, 60, seed=0).rule
    assert len(set(rule.values())) == 1
    assert all(problem.cost(own)["bops"] <= 0.3 for own in rule.values())
    assert problem.spent.images_trained == 40 * (6 * 8 + 1)
    assert 0 < problem.spent.evaluations <= 4 * 3 * tiny_problem.batches


def test_equal_seeds_give_equal_rules_for_each_condition(tiny_problem: NetworkProblem) -> None:
    searcher = HessianILP(scope="condition", images=40, probes=4, budgets=2)
    rules = []
    for _ in range(2):
        problem = MeteredProblem(tiny_problem)
        rules.append(searcher.search(problem, TASK, 100, seed=3).rule)
        assert problem.spent.images_trained == 3 * 40 * (6 * 4 + 1)
    assert rules[0] == rules[1]
    assert set(rules[0]) == set(tiny_problem.mixture.conditions)


def test_a_table_is_no_live_network() -> None:
    with pytest.raises(SettingError, match="needs a live network"):
        HessianILP().search(MeteredProblem(TabularSetting().problem()), TASK, 100, 0)


def test_wrong_settings_are_refused(tiny_problem: NetworkProblem) -> None:
    for wrong in ({"images": 0}, {"budgets": 0}, {"probes": 1}, {"tolerance": 0.0}):
        with pytest.raises(SettingError, match=next(iter(wrong))):
            HessianILP(**wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="allowed are 1 to 200"):
        HessianILP(images=201).search(MeteredProblem(tiny_problem), TASK, 100, 0)
