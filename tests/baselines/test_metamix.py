from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.metamix import MetaMix, MetaMixObjective
from baselines.mixed_inputs import frozen, mixed_inputs
from baselines.relaxed_search import aim_of
from dqmq_env.costs import Bops
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.quality.batches import Batch
from dqmq_env.quantization.assignment import BitAssignment, LayerBits
from dqmq_env.quantization.choice import Chooser
from dqmq_env.quantization.grid import FLOAT_BITS
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.search.meter import MeteredProblem, Spent
from dqmq_env.search.rule import rule_of
from dqmq_env.task.budget import Budget
from dqmq_env.task.reward import AccuracyReward, WeightedReward
from dqmq_env.task.task import Task
from tests.steps import step_of

TABLE = TableProblem(load_table("resnet8-fashion-mnist"))
QUICK = MetaMix(images=6 * 8, batch=8)
DECIDED = range(1, 7)


def budgeted(fraction: float) -> Task:
    return Task(AccuracyReward(), Budget(Bops(), fraction))


@pytest.fixture
def batch(tiny_problem: NetworkProblem) -> Batch:
    train = tiny_problem.data.train
    return Batch(train.images[:16], train.labels[:16], [])


@pytest.fixture
def make_objective(tiny_problem: NetworkProblem) -> Callable[..., MetaMixObjective]:
    def make(task: Task | None = None, **changes: Any) -> MetaMixObjective:
        settings = MetaMix(**asdict(QUICK) | changes)
        aim = aim_of(tiny_problem, task or budgeted(0.3), settings.exchange)
        return MetaMixObjective(settings, aim, tiny_problem, lambda spent: None)

    return make


def state_of(network: QuantizedNetwork) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def float_weights(width: int) -> Chooser:
    return lambda index, _: LayerBits(FLOAT_BITS, width if index in DECIDED else 8)


# the two uses of a batch


def test_the_weights_turn_leaves_alpha_alone(
    make_objective: Callable[..., MetaMixObjective], tiny_problem: NetworkProblem, batch: Batch
) -> None:
    objective, network = make_objective(), tiny_problem.trainable().train()
    objective.loss(network, step_of(tiny_problem, batch, 0.9)).backward()
    assert objective.alpha.grad is None
    assert not objective.alpha.any()
    for layer in network.layers[1:-1]:
        assert layer.inner.weight.grad is not None
        assert layer.activation_log_step.grad is not None
        assert layer.activation_log_step.grad.all()
        assert layer.weight_log_step.grad is None


def test_the_turn_of_alpha_changes_alpha_alone(
    make_objective: Callable[..., MetaMixObjective], tiny_problem: NetworkProblem, batch: Batch
) -> None:
    objective, network = make_objective(), tiny_problem.trainable().train()
    objective.loss(network, step_of(tiny_problem, batch, 0.9)).backward()
    before = state_of(network)
    gradients = [own.grad.clone() for own in network.parameters() if own.grad is not None]
    objective.after_step()
    assert objective.alpha.all()
    assert all(torch.equal(before[name], own) for name, own in network.state_dict().items())
    after = [own.grad for own in network.parameters() if own.grad is not None]
    assert all(torch.equal(*pair) for pair in zip(gradients, after, strict=True))
    assert all(own.requires_grad for own in network.parameters())


def test_alpha_rests_during_the_warm_up(
    make_objective: Callable[..., MetaMixObjective], tiny_problem: NetworkProblem, batch: Batch
) -> None:
    objective, network = make_objective(), tiny_problem.trainable().train()
    objective.loss(network, step_of(tiny_problem, batch, 0.49)).backward()
    objective.after_step()
    assert not objective.alpha.any()


def test_one_loss_is_the_mean_and_the_other_that_of_the_widest(
    make_objective: Callable[..., MetaMixObjective], tiny_problem: NetworkProblem, batch: Batch
) -> None:
    network = tiny_problem.trainable().eval()
    x = tiny_problem.normalize(batch.images)
    losses = [
        torch.nn.functional.cross_entropy(network(x, float_weights(width)), batch.labels).item()
        for width in (2, 4, 8)
    ]
    found = [
        make_objective(candidates_loss=which).loss(network, step_of(tiny_problem, batch)).item()
        for which in ("mean", "last")
    ]
    assert found == pytest.approx([sum(losses) / 3, losses[2]])


def test_the_float_network_is_learned_from_on_request(
    make_objective: Callable[..., MetaMixObjective], tiny_problem: NetworkProblem, batch: Batch
) -> None:
    network = tiny_problem.trainable().eval()
    wrong = Batch(batch.images, (batch.labels + 1) % 10, [])
    taught = make_objective(distillation=1.0)
    right, other = (step_of(tiny_problem, own, distillation=1.0) for own in (batch, wrong))
    assert taught.loss(network, right) > 0
    assert taught.loss(network, right) == taught.loss(network, other)
    right, other = (step_of(tiny_problem, own) for own in (batch, wrong))
    untaught = make_objective()
    assert untaught.loss(network, right) != untaught.loss(network, other)


# mixtures


@pytest.mark.parametrize("place", range(3))
def test_a_mixture_of_one_is_that_candidate(tiny_problem: NetworkProblem, place: int) -> None:
    network = tiny_problem.trainable().eval()
    x = tiny_problem.normalize(tiny_problem.data.train.images[:8])
    share = torch.eye(3)[place]
    with mixed_inputs(network, dict.fromkeys(DECIDED, share)):
        mixed = network(x, float_weights(FLOAT_BITS))
    assert torch.equal(mixed, network(x, float_weights((2, 4, 8)[place])))


def test_a_layer_receives_the_weighted_sum_inside_the_block_alone(
    tiny_problem: NetworkProblem,
) -> None:
    network = tiny_problem.trainable().eval()
    x = tiny_problem.normalize(tiny_problem.data.train.images[:8])
    outside = network(x, float_weights(FLOAT_BITS))
    layer, share = network.layers[1], torch.tensor([0.5, 0.3, 0.2])
    received: list[Tensor] = []
    with mixed_inputs(network, {1: share}):
        handle = layer.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
        assert not torch.equal(network(x, float_weights(FLOAT_BITS)), outside)
        handle.remove()
    handle = layer.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
    assert torch.equal(network(x, float_weights(FLOAT_BITS)), outside)
    handle.remove()
    parts = [layer.quantized_input(received[1], width) for width in (2, 4, 8)]
    expected = 0.5 * parts[0] + 0.3 * parts[1] + 0.2 * parts[2]
    torch.testing.assert_close(received[0], expected)


def test_a_frozen_network_normalises_by_the_batch_and_stands_still(
    tiny_problem: NetworkProblem,
) -> None:
    network = tiny_problem.trainable()
    x = tiny_problem.normalize(tiny_problem.data.train.images[:8])
    before = state_of(network)
    with torch.no_grad():
        by_statistics = network.eval()(x, float_weights(FLOAT_BITS))
        with frozen(network.train()):
            by_batch = network(x, float_weights(FLOAT_BITS))
        assert all(torch.equal(before[name], own) for name, own in network.state_dict().items())
        assert torch.equal(network(x, float_weights(FLOAT_BITS)), by_batch)
    assert not torch.equal(by_batch, by_statistics)
    assert any(not torch.equal(before[name], own) for name, own in network.state_dict().items())


def test_alpha_weighs_accuracy_against_the_distance_to_the_budget(
    make_objective: Callable[..., MetaMixObjective], tiny_problem: NetworkProblem, batch: Batch
) -> None:
    network = tiny_problem.trainable().eval()
    x = tiny_problem.normalize(batch.images)
    losses = {}
    for task in (budgeted(0.3), Task(WeightedReward(weight=0.5))):
        for penalty in (1.0, 2.0):
            objective = make_objective(task, penalty=penalty, exchange=4.0)
            losses[task, penalty] = objective.mixture_loss(network, x, batch.labels).item()
    cost = make_objective().expected_cost.item()
    assert cost == pytest.approx(
        sum(tiny_problem.cost(tiny_problem.uniform(width))["bops"] for width in (2, 4, 8)) / 3
    )
    task, free = budgeted(0.3), Task(WeightedReward(weight=0.5))
    deviation = losses[task, 2.0] - losses[task, 1.0]
    assert deviation == pytest.approx(cost / 0.3 - 1, abs=1e-5)
    assert losses[free, 1.0] == losses[free, 2.0]
    assert losses[free, 1.0] == pytest.approx(losses[task, 1.0] - deviation + 4 * cost, abs=1e-5)


def test_shares_grow_sharper_as_the_temperature_falls(
    make_objective: Callable[..., MetaMixObjective],
) -> None:
    settings = MetaMix(warm_up=0.5, last_temperature=0.1)
    assert settings.temperature(0.5) == 1
    assert settings.temperature(0.75) == pytest.approx(0.1**0.5)
    assert settings.temperature(1.0) == pytest.approx(0.1)
    objective = make_objective()
    with torch.no_grad():
        objective.alpha[:, 1] = 1
    warm = objective.shares
    objective.temperature = 0.1
    assert (objective.shares[:, 1] > warm[:, 1]).all()


# what is selected


def test_bits_are_those_of_the_largest_alpha(
    make_objective: Callable[..., MetaMixObjective],
) -> None:
    objective = make_objective(budgeted(0.99))
    wanted = [0, 1, 2, 1, 0, 2]
    with torch.no_grad():
        objective.alpha[range(6), wanted] = 1
    assert objective.selected().tolist() == wanted


def test_too_dear_bits_are_lowered_where_the_least_alpha_is_lost(
    make_objective: Callable[..., MetaMixObjective],
) -> None:
    objective = make_objective(budgeted(0.99))
    with torch.no_grad():
        objective.alpha.copy_(torch.tensor([0.0, 1.0, 5.0]).expand(6, 3))
        objective.alpha[4] = torch.tensor([0.0, 1.0, 1.5])
    assert objective.selected().tolist() == [2, 2, 2, 2, 1, 2]


@pytest.mark.parametrize("fraction", [0.15, 0.4])
def test_the_budget_is_kept(tiny_problem: NetworkProblem, fraction: float) -> None:
    found = MetaMix(images=12 * 8, batch=8).select(
        MeteredProblem(tiny_problem, 0), budgeted(fraction), 0
    )
    cost = tiny_problem.cost(found.assignment)["bops"]
    assert fraction / 4 < cost <= fraction + 1e-9


@pytest.mark.parametrize(
    ("settings", "spent"),
    [
        # 7 batches of 8, of which 4 warm up
        (MetaMix(50, 8), Spent(images_trained=8 * (7 * 3 + 3))),
        (
            MetaMix(50, 8, candidates_loss="last"),
            Spent(images_evaluated=8 * 7 * 2, images_trained=8 * (7 + 3)),
        ),
        (
            MetaMix(50, 8, distillation=0.5),
            Spent(images_evaluated=8 * 7, images_trained=8 * (7 * 3 + 3)),
        ),
    ],
)
def test_images_are_counted_to_the_last(
    tiny_problem: NetworkProblem, settings: MetaMix, spent: Spent
) -> None:
    problem = MeteredProblem(tiny_problem, 0)
    settings.select(problem, budgeted(0.3), 0)
    assert problem.spent == spent


def test_equal_seeds_give_equal_answers(tiny_problem: NetworkProblem) -> None:
    selections = [QUICK.select(MeteredProblem(tiny_problem), budgeted(0.3), 4) for _ in range(2)]
    assert selections[0].assignment == selections[1].assignment
    states = [own.network.state_dict() for own in selections]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_network_is_ready_for_training_at_the_bits_found(tiny_problem: NetworkProblem) -> None:
    network = QUICK.select(MeteredProblem(tiny_problem), budgeted(0.3), 0).network
    again = state_of(network)
    network.calibrate(tiny_problem.normalize(tiny_problem.calibration))
    for name, own in network.state_dict().items():
        assert torch.equal(own, again[name]) or not name.endswith(("weight", "weight_log_step"))
    fresh = tiny_problem.trainable().layers[3]
    assert not torch.equal(network.layers[3].inner.weight, fresh.inner.weight)
    assert not torch.equal(network.layers[3].weight_log_step, fresh.weight_log_step)


def test_the_price_of_cost_follows_the_reward(tiny_problem: NetworkProblem) -> None:
    def found(weight: float) -> BitAssignment:
        task = Task(WeightedReward(weight=weight))
        return QUICK.select(MeteredProblem(tiny_problem), task, 0).assignment

    assert found(0.99) == tiny_problem.uniform(2)
    assert tiny_problem.cost(found(0.01))["bops"] > tiny_problem.cost(found(0.99))["bops"]


def test_where_cost_does_not_count_nothing_is_spent(tiny_problem: NetworkProblem) -> None:
    problem = MeteredProblem(tiny_problem, 0)
    assert QUICK.select(problem, budgeted(1), 0).assignment == tiny_problem.uniform(8)
    assert problem.spent == Spent()


def test_the_agent_takes_what_was_found(tiny_problem: NetworkProblem) -> None:
    task = budgeted(0.3)
    agent = QUICK.search(MeteredProblem(tiny_problem, 0), task, 0, 0)
    found = QUICK.select(MeteredProblem(tiny_problem), task, 0).assignment
    assert set(rule_of(agent, tiny_problem, task).values()) == {found}


def test_state_goes_to_and_fro(make_objective: Callable[..., MetaMixObjective]) -> None:
    first, second = make_objective(), make_objective()
    with torch.no_grad():
        first.alpha.uniform_()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.alpha, second.alpha)
    assert second.alpha.requires_grad


def test_a_table_is_refused() -> None:
    with pytest.raises(SettingError, match="needs a live network"):
        MetaMix().search(MeteredProblem(TABLE), budgeted(0.3), 10, 0)


def test_activations_without_a_choice_are_refused(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = MeteredProblem(make_tiny_problem(activation_bits=8))
    with pytest.raises(SettingError, match="activation_bits: got one width"):
        QUICK.search(problem, budgeted(0.5), 0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 0},
        {"warm_up": 1.0},
        {"penalty": 0.0},
        {"last_temperature": 0.0},
        {"distillation": 1.5},
        {"candidates_loss": "first"},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="allowed are"):
        MetaMix(**asdict(MetaMix()) | wrong)
