from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from baselines.dqnet import DQNet, PerImageNetwork
from baselines.dqnet.controller import Controller
from baselines.dqnet.layout import layout_of, measure_of
from baselines.dqnet.objective import DQNetObjective
from baselines.dqnet.passes import DrawnPass
from dqmq_env.costs import Bops, Size, fraction, reference
from dqmq_env.data import ImageData
from dqmq_env.errors import AssignmentError, BudgetError, CheckpointError, SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.quantization.choice import RelaxedBits
from dqmq_env.quantization.network import QuantizedNetwork
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.rule import rule_of
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import DecisionScheme, JointDecisions, SeparateDecisions
from dqmq_env.task.task import Task
from tests.steps import step_of

SHORT = DQNet(images=4 * 32, batch=32, controller_rate=0.05)
FOUR = replace(SHORT, base=4)
BRIEF = DQNet(images=32, batch=16, controller_rate=0.05)
BUDGET = 0.4

MakeProblem = Callable[..., NetworkProblem]


@pytest.fixture(scope="module")
def problem(make_tiny_problem: MakeProblem) -> NetworkProblem:
    return make_tiny_problem(bits=(2, 3, 4, 5, 8))


@pytest.fixture(scope="module")
def network(problem: NetworkProblem) -> QuantizedNetwork:
    return problem.trainable()


@pytest.fixture(scope="module")
def varied(problem: NetworkProblem, network: QuantizedNetwork) -> PerImageNetwork:
    """A network whose controller was made to tell images apart."""
    layout = layout_of(problem, FOUR, BUDGET)
    controller = controller_for(problem, FOUR, seed=3)
    with torch.no_grad():
        controller.hidden.weight.mul_(30)
        controller.output.weight.mul_(30)
    return PerImageNetwork(network, controller, layout, problem.normalize)


def controller_for(problem: NetworkProblem, settings: DQNet, seed: int = 0) -> Controller:
    layout = layout_of(problem, settings, BUDGET)
    torch.manual_seed(seed)
    return Controller(
        problem.layers[layout.controlled[0]],
        len(layout.controlled),
        len(layout.choices),
        settings.pool,
        settings.hidden,
        settings.dropout,
    )


def same_bits(problem: NetworkProblem, row: list[int]) -> BitAssignment:
    """Weights and activations of each layer at the bits of a row."""
    pairs = zip(problem.layers, row, strict=True)
    return BitAssignment({spec.name: (bits, bits) for spec, bits in pairs})


def mean_cost(network: PerImageNetwork, problem: NetworkProblem) -> float:
    """Over the search images under the mixture's conditions, which are equally likely."""
    costs = [network(problem.search.under(own)).cost for own in problem.mixture.conditions]
    return float(torch.stack(costs).mean())


def test_nothing_is_drawn_at_evaluation(varied: PerImageNetwork, problem: NetworkProblem) -> None:
    images = problem.data.search.images
    first, second = varied(images), varied(images)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.bits, second.bits)
    assert torch.equal(first.cost, second.cost)


def test_bits_follow_the_image_and_not_its_neighbours(
    varied: PerImageNetwork, problem: NetworkProblem
) -> None:
    images = problem.data.search.images
    whole = varied(images)
    assert len(whole.bits.unique(dim=0)) > 3
    order = torch.arange(len(images)).flip(0)
    turned = varied(images[order])
    assert torch.equal(turned.bits, whole.bits[order])
    assert torch.allclose(turned.logits, whole.logits[order], atol=1e-5)
    for start in range(0, 50, 7):
        part = varied(images[start : start + 7])
        assert torch.equal(part.bits, whole.bits[start : start + 7])
        assert torch.allclose(part.logits, whole.logits[start : start + 7], atol=1e-5)


def test_only_the_later_layers_get_a_choice_and_only_between_neighbours(
    varied: PerImageNetwork, problem: NetworkProblem
) -> None:
    bits = varied(problem.data.search.images).bits
    assert (bits[:, [0, -1]] == 8).all()
    assert (bits[:, 1:3] == 4).all()
    assert set(bits[:, 3:-1].unique().tolist()) == {3, 4, 5}


@pytest.mark.parametrize(
    ("choices", "base", "widths"),
    [
        (3, 4, (3, 4, 5)),
        (3, 5, (4, 5, 8)),
        (3, 2, (2, 3)),
        (3, 8, (5, 8)),
        (5, 3, (2, 3, 4, 5)),
        (None, 2, (2, 3, 4, 5, 8)),
    ],
)
def test_choices_are_around_the_base(
    problem: NetworkProblem, choices: int | None, base: int, widths: tuple[int, ...]
) -> None:
    assert layout_of(problem, DQNet(choices=choices, base=base), 1.0).widths == widths


def test_the_base_follows_the_budget(problem: NetworkProblem) -> None:
    controller = layout_of(problem, SHORT, BUDGET).controller
    for bits in (3, 4, 5):
        budget = problem.cost(problem.uniform(bits))["bops"] + controller
        assert layout_of(problem, SHORT, budget).widths[1] == bits
    # the lowest and the highest candidate have one neighbour alone
    lowest = problem.cost(problem.uniform(2))["bops"] + controller + 1e-6
    assert [layout_of(problem, SHORT, own).widths[1] for own in (lowest, 1.0)] == [3, 5]


@pytest.mark.parametrize("budget", [0.31, 0.33, 0.36, 0.4, 0.6, 1.0])
def test_a_tight_budget_lowers_the_first_stage_to_leave_room(
    problem: NetworkProblem, budget: float
) -> None:
    widths = problem.candidates[problem.layers[1].name]
    layout = layout_of(problem, DQNet(base=4), budget)
    stem = widths[layout.fixed[1]]
    assert layout.fixed[1] == layout.fixed[2]
    assert stem <= 4
    assert layout.roomy <= budget
    if stem < 4:
        assert layout_of(problem, DQNet(base=4, stem_bits=stem + 1), 1.0).roomy > budget


def test_cost_is_that_of_the_bits_and_of_the_controller(
    varied: PerImageNetwork, problem: NetworkProblem
) -> None:
    prediction = varied(problem.data.search.images)
    specs = problem.layers
    # 4 channels of 28 x 28, averaged to 2 x 2; 64 hidden; 4 layers of 3 choices
    pooling = 4 * 28 * 28 * 32
    linear = (4 * 2 * 2 * 64 + 64 * 4 * 3) * 32 * 32
    controller = (pooling + linear) / reference(Bops(), specs)
    expected = [
        fraction(Bops(), specs, same_bits(problem, row)) for row in prediction.bits.tolist()
    ]
    assert prediction.cost.tolist() == pytest.approx([own + controller for own in expected])


def test_the_output_is_that_of_each_image_at_its_bits(
    varied: PerImageNetwork, problem: NetworkProblem, network: QuantizedNetwork
) -> None:
    images = problem.data.search.images[:6]
    prediction = varied(images)
    folded = network.folded()
    for number, row in enumerate(prediction.bits.tolist()):
        with torch.no_grad():
            x = problem.normalize(images[number : number + 1])
            alone = folded(x, same_bits(problem, row))
        assert torch.allclose(alone[0], prediction.logits[number], atol=1e-4)


def drawn_pass(
    problem: NetworkProblem, network: QuantizedNetwork, noise: float, seed: int
) -> DrawnPass:
    layout, controller = layout_of(problem, SHORT, BUDGET), controller_for(problem, SHORT)
    generator = torch.Generator().manual_seed(seed)
    return DrawnPass(network, layout, controller, 1.0, noise, generator)


@given(seed=st.integers(0, 1000), noise=st.floats(0, 3))
def test_what_is_drawn_lies_among_the_choices(
    problem: NetworkProblem, network: QuantizedNetwork, seed: int, noise: float
) -> None:
    drawn = drawn_pass(problem, network, noise, seed)
    layout = layout_of(problem, SHORT, BUDGET)
    x = torch.rand(5, *problem.layers[layout.controlled[0]].input_shape)
    for index in layout.controlled:
        choice = drawn(index, x)
        assert isinstance(choice, RelaxedBits)
        assert choice.sample is not None
        assert torch.allclose(choice.probabilities.sum(1), torch.ones(5))
        offered = choice.probabilities.detach().amax(0) > 0
        assert offered.nonzero()[:, 0].tolist() == list(layout.choices)
        assert set(choice.sample.tolist()) <= set(layout.choices)
    assert torch.allclose(drawn.one_hot.sum(2), torch.ones(5, len(layout.controlled)))
    assert torch.equal(drawn.one_hot.argmax(2), drawn.chosen)


def test_noise_makes_equal_images_differ_in_training(
    problem: NetworkProblem, network: QuantizedNetwork
) -> None:
    layout = layout_of(problem, SHORT, BUDGET)
    x = torch.rand(1, *problem.layers[layout.controlled[0]].input_shape).expand(400, -1, -1, -1)
    drawn = drawn_pass(problem, network, 1.0, 0)
    drawn(layout.controlled[0], x)
    # logits are small at the start, so that all choices are about as likely
    shares = drawn.one_hot.detach().mean((0, 1))
    assert (shares > 0.2).all()


@pytest.mark.parametrize("fade", [0.5, 1.0, None])
def test_noise_fades_out(fade: float | None) -> None:
    noise = [DQNet(fade=fade).noise(step / 100) for step in range(100)]
    assert noise[0] == 1
    if fade is None:
        assert set(noise) == {1}
    else:
        assert noise == sorted(noise, reverse=True)
        assert noise[-1] <= 0.011
        assert noise[int(100 * fade) - 2] > 0


def gradients(problem: NetworkProblem, settings: DQNet, budget: float) -> dict[str, Tensor]:
    """Of the controller's parameters, after one batch."""
    layout, controller = layout_of(problem, settings, budget), controller_for(problem, settings)
    objective = DQNetObjective(controller, layout, settings, budget, seed=0)
    network = problem.trainable().train()
    batch = MixedQualityBatches(problem.data.train, problem.mixture, 32, seed=0).at(0)
    objective.loss(network, step_of(problem, batch)).backward()
    found = {name: own.grad for name, own in controller.named_parameters() if own.grad is not None}
    assert len(found) == 4
    return found


def test_the_task_alone_reaches_the_controller(problem: NetworkProblem) -> None:
    found = gradients(problem, DQNet(weight=0.0), BUDGET)
    assert all(float(own.abs().max()) > 0 for own in found.values())
    # each controlled layer is credited
    assert (found["output.bias"].view(4, 3).abs().amax(1) > 0).all()


def test_the_hinge_pushes_down_above_the_budget_and_is_silent_below(
    problem: NetworkProblem,
) -> None:
    """The base is set, so that the same bits are drawn whatever the budget."""
    silent = DQNet(weight=0.0, base=4, stem_bits=4)
    loud = replace(silent, weight=5.0)
    task = gradients(problem, silent, BUDGET)
    loose, tight = gradients(problem, loud, 1.0), gradients(problem, loud, 0.29)
    for name, own in task.items():
        assert torch.equal(loose[name], own)
    push = (tight["output.bias"] - task["output.bias"]).view(4, 3)
    # less of the lowest bits would cost more, more of the highest too
    assert (push[:, 0] < 0).all()
    assert (push[:, 2] > 0).all()


def test_a_tighter_budget_gives_a_lower_cost(problem: NetworkProblem) -> None:
    settings = DQNet(images=10 * 16, batch=16, controller_rate=0.05, base=4, stem_bits=4)
    tight, loose = (settings.train(problem, budget, seed=0) for budget in (0.31, 0.8))
    assert mean_cost(tight, problem) < 0.9 * mean_cost(loose, problem)


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_mean_bits_are_held_to_the_uniform_bits_of_the_budget(
    problem: NetworkProblem, bits: int
) -> None:
    settings = DQNet(cost="mean-bits", base=4, stem_bits=4)
    layout = layout_of(problem, settings, 1.0)
    same = torch.full((1, 4), layout.widths.index(bits))
    budget = float(layout.cost(same)[0])
    measure = measure_of(layout, settings, budget)
    one_hot = nn.functional.one_hot(torch.tensor([[0, 1, 2, 2], *same.tolist()]), 3).float()
    assert measure.of(one_hot).tolist() == pytest.approx([(3 + 4 + 5 + 5) / 4, bits])
    assert measure.target == pytest.approx(bits, abs=1e-3)


def test_equal_seeds_give_equal_networks(problem: NetworkProblem) -> None:
    images = problem.data.search.images
    first = BRIEF.train(problem, BUDGET, seed=0)(images)
    torch.manual_seed(99)
    again, other = (BRIEF.train(problem, BUDGET, seed)(images) for seed in (0, 1))
    assert torch.equal(first.logits, again.logits)
    assert torch.equal(first.bits, again.bits)
    assert not torch.equal(first.logits, other.logits)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    problem: NetworkProblem, tmp_path: Path
) -> None:
    folders = tmp_path / "whole", tmp_path / "stopped"
    whole = SHORT.train(problem, BUDGET, 0, folders[0])
    SHORT.train(problem, BUDGET, 0, folders[1], callback=lambda step: step < 2)
    states = [folder / "state.dqmq" for folder in folders]
    assert states[0].read_bytes() != states[1].read_bytes()
    resumed = SHORT.train(problem, BUDGET, 0, folders[1])
    # all parameters, those of the controller and of the optimiser among them
    assert states[0].read_bytes() == states[1].read_bytes()
    images = problem.data.search.images
    assert torch.equal(resumed(images).logits, whole(images).logits)
    assert torch.equal(resumed(images).cost, whole(images).cost)


def test_other_settings_in_the_same_folder_are_refused(
    problem: NetworkProblem, tmp_path: Path
) -> None:
    BRIEF.train(problem, BUDGET, 0, tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        BRIEF.train(problem, 0.45, 0, tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        replace(BRIEF, weight=3.0).train(problem, BUDGET, 0, tmp_path)


@pytest.mark.parametrize("decisions", [JointDecisions(), SeparateDecisions()])
def test_a_search_gives_a_rule_within_the_budget(
    problem: NetworkProblem, decisions: DecisionScheme
) -> None:
    task = Task(budget=Budget(Bops(), 0.3), decisions=decisions)
    metered = MeteredProblem(problem, 0)
    agent = BRIEF.search(metered, task, 0, seed=0)
    assert metered.spent.evaluations == 0
    assert metered.spent.images_trained == 32
    assert metered.spent.images_evaluated == 3 * 20
    assert set(agent.rule) == set(problem.mixture.conditions)
    for condition, assignment in agent.rule.items():
        assert problem.cost(assignment)["bops"] <= 0.3
        frequent = agent.network(problem.search.under(condition)[:20]).bits.mode(0).values
        modal = same_bits(problem, frequent.tolist())
        if problem.cost(modal)["bops"] <= 0.3:
            assert assignment == modal
    assert set(rule_of(agent, problem, task)) == set(problem.mixture.conditions)


def test_a_network_of_linear_layers_is_looked_at_without_pooling(tiny_data: ImageData) -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(784, 12)]
    for _ in range(4):
        layers += [nn.ReLU(), nn.Linear(12, 12)]
    network = nn.Sequential(*layers, nn.ReLU(), nn.Linear(12, 10)).eval()
    problem = NetworkProblem.over(network, tiny_data, bits=(2, 4, 8), conditions=["clean"])
    trained = replace(BRIEF, hidden=4).train(problem, 3.0, seed=0)
    prediction = trained(problem.data.test.images[:5])
    assert (prediction.bits[:, 1] == trained.layout.widths[1]).all()
    controller = (12 * 4 + 4 * 3 * 3) * 32 * 32 / reference(Bops(), problem.layers)
    assert trained.layout.controller == pytest.approx(controller)


def test_a_table_is_refused() -> None:
    table = MeteredProblem(TableProblem(load_table("resnet8-fashion-mnist")))
    with pytest.raises(SettingError, match="live network"):
        BRIEF.search(table, Task(), 100, seed=0)


def test_a_budget_on_size_is_refused(problem: NetworkProblem) -> None:
    with pytest.raises(SettingError, match="size"):
        BRIEF.search(MeteredProblem(problem), Task(budget=Budget(Size(), 0.5)), 100, seed=0)


@pytest.mark.parametrize("budget", [-1.0, 0.0, 0.05, float("nan"), float("inf")])
def test_a_budget_out_of_reach_is_refused(problem: NetworkProblem, budget: float) -> None:
    with pytest.raises(BudgetError, match="budget"):
        BRIEF.train(problem, budget, seed=0)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"stem": 6}, SettingError),
        ({"stem": -1}, SettingError),
        ({"stem_bits": 7}, AssignmentError),
        ({"base": 7}, AssignmentError),
    ],
)
def test_settings_that_do_not_fit_the_network_are_refused(
    problem: NetworkProblem, settings: dict[str, int], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(settings))):
        DQNet(**settings).train(problem, 1.0, seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"choices": 2},
        {"choices": 1},
        {"dropout": 1.0},
        {"fade": 0.0},
        {"weight": -1.0},
        {"temperature": 0.0},
        {"pool": 0},
        {"cost": "size"},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(SettingError, match=next(iter(settings))):
        DQNet(**settings)  # type: ignore[arg-type]
