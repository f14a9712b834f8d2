from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.descent import Descent
from baselines.relaxed_search import aim_of
from baselines.sdq import SDQ, SDQObjective
from dqmq_env.costs import Bops
from dqmq_env.errors import BudgetError, SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.quantization.assignment import BitAssignment, LayerBits
from dqmq_env.quantization.choice import LayerChoice, RelaxedBits
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.randomness import torch_generator
from dqmq_env.search.meter import MeteredProblem, Spent
from dqmq_env.search.rule import rule_of
from dqmq_env.search.space import Space
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import SeparateDecisions
from dqmq_env.task.reward import AccuracyReward, WeightedReward
from dqmq_env.task.task import Task

TABLE = TableProblem(load_table("resnet8-fashion-mnist"))
QUICK = SDQ(images=24 * 8, batch=8)


def budgeted(fraction: float) -> Task:
    return Task(AccuracyReward(), Budget(Bops(), fraction))


def descent_of(problem: NetworkProblem, start: float = 0.5) -> Descent:
    return Descent(Space(problem, budgeted(1)), start)


def set_betas(descent: Descent, betas: list[float]) -> None:
    with torch.no_grad():
        descent.logits.copy_(torch.tensor(betas).logit())


# where layers stand


def test_layers_begin_at_the_highest_candidate_and_go_down_one_by_one(
    tiny_problem: NetworkProblem,
) -> None:
    descent = descent_of(tiny_problem, start=0.6)
    assert descent.places == [2] * 6
    assert descent.betas.tolist() == pytest.approx([0.6] * 6)
    set_betas(descent, [0.9, 0.2, 0.5, 0.1, 0.31, 0.3])
    descent.lower(3)
    assert descent.places == [2, 2, 2, 1, 2, 2]
    assert descent.betas.tolist() == pytest.approx([0.9, 0.2, 0.5, 0.6, 0.31, 0.3])


def test_layers_fall_below_the_threshold_alone_and_the_lowest_stay(
    tiny_problem: NetworkProblem,
) -> None:
    descent = descent_of(tiny_problem)
    set_betas(descent, [0.9, 0.2, 0.5, 0.1, 0.31, 0.05])
    assert descent.falling(0.3) == [5, 3, 1]
    descent.places[5] = 0
    assert descent.falling(0.3) == [3, 1]
    assert descent.savings()[5] == 0


def test_only_the_candidate_stood_on_and_the_next_lower_one_are_computed(
    tiny_problem: NetworkProblem,
) -> None:
    descent = descent_of(tiny_problem)
    descent.places = [2, 1, 0, 2, 1, 0]
    drawn = descent.draw(1.0, torch_generator(0, "test"))
    offered: list[list[int]] = []
    for layer in range(6):
        choice = descent.choice(layer, drawn[layer])
        if isinstance(choice, RelaxedBits):
            assert choice.sample is not None
            assert choice.probabilities.sum().item() == pytest.approx(1)
            assert choice.sample.item() == choice.probabilities.argmax()
            offered.append(choice.probabilities[0].nonzero()[:, 0].tolist())
        else:
            assert choice == LayerBits(2, 2)
            offered.append([0])
    assert offered == [[1, 2], [0, 1], [0], [1, 2], [0, 1], [0]]


def test_a_layer_stays_as_often_as_beta_says(tiny_problem: NetworkProblem) -> None:
    descent = descent_of(tiny_problem)
    betas = [0.1, 0.3, 0.5, 0.7, 0.9, 0.5]
    set_betas(descent, betas)
    generator = torch_generator(0, "test")
    draws = torch.stack([descent.draw(0.5, generator) for _ in range(1500)])
    stays = (draws[..., 1] > draws[..., 0]).float().mean(0)
    assert stays.tolist() == pytest.approx(betas, abs=0.05)


def test_the_rest_of_the_way_to_a_budget_goes_by_ascending_beta_in_rounds(
    tiny_problem: NetworkProblem,
) -> None:
    space = Space(tiny_problem, budgeted(0.2))
    descent = Descent(space, 0.5)
    betas = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    set_betas(descent, betas)
    found = descent.fitting()
    assert space.fits(found)
    rounds, rest = divmod(int((2 - found).sum()), 6)
    expected = [2 - rounds - (layer >= 6 - rest) for layer in range(6)]
    assert found.tolist() == expected


# gradients


def test_a_layer_that_is_worse_off_below_learns_to_stay(tiny_problem: NetworkProblem) -> None:
    descent, network = descent_of(tiny_problem), tiny_problem.trainable().eval()
    descent.places = [1] * 6
    x = tiny_problem.normalize(tiny_problem.data.train.images[:16])
    with torch.no_grad():
        exact = network(x, network.uniform(FLOAT_BITS))

    for step in range(10):
        drawn = descent.draw(1.0, torch_generator(0, "test", step))

        def choose(index: int, activation: Tensor, drawn: Tensor = drawn) -> LayerChoice:
            if index in (0, 7):
                return LayerBits(8, 8)
            return descent.choice(index - 1, drawn[index - 1])

        (network(x, choose) - exact).square().mean().backward()
    assert descent.logits.grad is not None
    assert descent.logits.grad.sum() < 0
    before = descent.betas.sum()
    descent.move(1.0, descent.logits.grad)
    assert descent.betas.sum() > before


def test_the_push_is_down_and_strongest_where_most_is_saved(tiny_problem: NetworkProblem) -> None:
    aim = aim_of(tiny_problem, budgeted(0.3), 3)
    objective = SDQObjective(QUICK, aim, tiny_problem, 0)
    push, savings = objective.push(), objective.descent.savings()
    assert (push > 0).all()
    assert (push <= torch.tensor(savings)).all()
    objective.descent.places[2] = 0
    assert objective.push()[2] == 0
    assert objective.push()[3] == push[3]


# the search


@pytest.mark.parametrize("fraction", [0.15, 0.4])
@pytest.mark.parametrize("settings", [QUICK, SDQ(images=16, batch=8)])
def test_the_budget_is_kept(tiny_problem: NetworkProblem, fraction: float, settings: SDQ) -> None:
    problem, task = MeteredProblem(tiny_problem, 0), budgeted(fraction)
    found = settings.select(problem, task, 0).assignment
    cost = tiny_problem.cost(found)["bops"]
    assert cost <= fraction + 1e-9
    assert cost > fraction / 2
    assert 0 < problem.spent.images_trained <= settings.images
    assert problem.spent == Spent(images_trained=problem.spent.images_trained)


def test_it_ends_where_the_budget_is_met(tiny_problem: NetworkProblem) -> None:
    seen: list[BitAssignment] = []
    for images in (24 * 8, 48 * 8):
        problem = MeteredProblem(tiny_problem, 0)
        settings = SDQ(images, 8, first_pressure=10, last_pressure=10, learning_rate=1e-9)
        seen.append(settings.select(problem, budgeted(0.6), 0).assignment)
        assert problem.spent.images_trained < 24 * 8
    assert len({str(own) for own in seen}) == 1


def test_images_are_counted_to_the_last(tiny_problem: NetworkProblem) -> None:
    problem = MeteredProblem(tiny_problem, 0)
    still = SDQ(images=150, batch=32, rate=1e-6)
    found = still.select(problem, Task(WeightedReward(weight=0.5)), 0).assignment
    assert problem.spent == Spent(images_trained=160)
    assert found == tiny_problem.uniform(8)


def test_equal_seeds_give_equal_answers(tiny_problem: NetworkProblem) -> None:
    selections = [QUICK.select(MeteredProblem(tiny_problem), budgeted(0.3), 4) for _ in range(2)]
    assert selections[0].assignment == selections[1].assignment
    states = [own.network.state_dict() for own in selections]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_network_was_trained_meanwhile(tiny_problem: NetworkProblem) -> None:
    network = QUICK.select(MeteredProblem(tiny_problem), budgeted(0.3), 0).network
    before, after = tiny_problem.trainable().state_dict(), network.state_dict()
    names = [name for name in before if name.endswith(("inner.weight", "weight_log_step"))]
    assert all(not torch.equal(before[name], after[name]) for name in names)
    assert not network.training


def test_the_price_of_cost_follows_the_reward(tiny_problem: NetworkProblem) -> None:
    costs = []
    for weight in (0.01, 0.99):
        task = Task(WeightedReward(weight=weight))
        found = SDQ(images=20 * 8, batch=8).select(MeteredProblem(tiny_problem), task, 0)
        costs.append(tiny_problem.cost(found.assignment)["bops"])
    assert costs[1] < costs[0]
    assert costs[1] == pytest.approx(tiny_problem.cost(tiny_problem.uniform(2))["bops"])


def test_where_cost_does_not_count_nothing_is_spent(tiny_problem: NetworkProblem) -> None:
    problem = MeteredProblem(tiny_problem, 0)
    assert QUICK.select(problem, budgeted(1), 0).assignment == tiny_problem.uniform(8)
    assert problem.spent == Spent()


@pytest.mark.parametrize("decisions", [Task().decisions, SeparateDecisions()])
def test_the_agent_takes_what_was_found(tiny_problem: NetworkProblem, decisions: Any) -> None:
    task = Task(AccuracyReward(), Budget(Bops(), 0.3), decisions=decisions)
    settings = SDQ(images=32, batch=8)
    agent = settings.search(MeteredProblem(tiny_problem, 0), task, 0, 0)
    found = settings.select(MeteredProblem(tiny_problem), task, 0).assignment
    assert set(rule_of(agent, tiny_problem, task).values()) == {found}


def test_activations_of_a_fixed_width_are_left_alone(make_tiny_problem: Any) -> None:
    problem = make_tiny_problem(activation_bits=8)
    found = SDQ(images=32, batch=8).select(MeteredProblem(problem), budgeted(0.4), 0).assignment
    assert {bits.activation for bits in found.values()} == {8}
    assert problem.cost(found)["bops"] <= 0.4


def test_state_goes_to_and_fro(tiny_problem: NetworkProblem) -> None:
    aim = aim_of(tiny_problem, budgeted(0.3), 3)
    first, second = (SDQObjective(QUICK, aim, tiny_problem, 0) for _ in range(2))
    first.descent.lower(2)
    set_betas(first.descent, [0.4] * 6)
    second.load_state_dict(first.state_dict())
    assert second.descent.places == first.descent.places
    assert torch.equal(second.descent.logits, first.descent.logits)


def test_a_table_is_refused() -> None:
    with pytest.raises(SettingError, match="needs a live network"):
        SDQ().search(MeteredProblem(TABLE), budgeted(0.3), 10, 0)


def test_an_impossible_budget_is_refused(tiny_problem: NetworkProblem) -> None:
    with pytest.raises(BudgetError, match="smallest reachable"):
        SDQ().search(MeteredProblem(tiny_problem), budgeted(0.01), 10, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": 0},
        {"rate": -1.0},
        {"temperature": float("nan")},
        {"start": 1.0},
        {"start": 0.2, "threshold": 0.3},
        {"threshold": 0.0},
        {"last_pressure": 0.0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="allowed are"):
        SDQ(**asdict(SDQ()) | wrong)
