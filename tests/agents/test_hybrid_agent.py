from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from agents.hybrid.agent import HybridAgent
from agents.hybrid.controller import Controller, Sampling
from agents.hybrid.deployed import DynamicNetwork
from agents.hybrid.eyes import Scene
from agents.hybrid.gradient import GRADIENTS
from agents.hybrid.heads import HEADS
from agents.hybrid.settings import HybridSettings
from agents.hybrid.settle import meet_budget
from agents.hybrid.values import Forecast, fit_values
from agents.hybrid.view import Look
from dqmq_env.costs import Bops, fraction
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import BudgetError, CheckpointError, SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.batches import Batch, MixedQualityBatches
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.training.loop import Schedule

SCHEDULE = Schedule(images=40 * 32, batch=32, save_every=10)
EVERYTHING = ("quality", "statistics", "channels", "map")
BY_VALUE = {
    "decides": "network",
    "distribution": "value",
    "sees": ("map",),
    "value_images": 64,
}


def make_agent(
    problem: NetworkProblem, schedule: Schedule = SCHEDULE, **settings: Any
) -> HybridAgent:
    own = HybridSettings(**{"budget": 0.3, "group": 8, "settle_images": 128, **settings})
    return HybridAgent(BitWidthEnv(problem), own, schedule, device="cpu")


@pytest.fixture(scope="session")
def by_image(make_tiny_problem: Callable[..., NetworkProblem]) -> NetworkProblem:
    return make_tiny_problem(granularity="image")


@pytest.fixture(scope="session")
def static(make_tiny_problem: Callable[..., NetworkProblem]) -> NetworkProblem:
    return make_tiny_problem(granularity="static")


@pytest.fixture(scope="module")
def trained(by_image: NetworkProblem) -> HybridAgent:
    return make_agent(by_image).learn()


def mixed_images(problem: NetworkProblem, count: int = 96) -> torch.Tensor:
    return MixedQualityBatches(problem.data.train, problem.mixture, count, seed=5).at(0).images


def test_the_budget_is_met_on_average_and_bits_are_candidates(trained: HybridAgent) -> None:
    images = trained.problem.data.test.images
    prediction = trained.deployed()(images)
    assert prediction.logits.shape == (len(images), 10)
    assert set(prediction.bits[:, 1:-1].unique().tolist()) <= {2, 4, 8}
    assert (prediction.bits[:, [0, -1]] == 8).all()
    assert 0.2 < float(prediction.cost.mean()) < 0.4


def test_cost_is_that_of_the_bits_plus_the_controller(trained: HybridAgent) -> None:
    prediction = trained.deployed()(trained.problem.data.test.images[:5])
    specs = trained.problem.layers
    for bits, cost in zip(prediction.bits.tolist(), prediction.cost.tolist(), strict=True):
        names = [spec.name for spec in specs]
        assignment = BitAssignment({n: (b, b) for n, b in zip(names, bits, strict=True)})
        expected = fraction(Bops(), specs, assignment) + trained.costing.controller
        assert cost == pytest.approx(expected, rel=1e-5)
    assert 0 < trained.costing.controller < 0.1


def test_each_image_is_classified_as_if_it_came_alone(trained: HybridAgent) -> None:
    network, images = trained.deployed(), trained.problem.data.test.images[:12]
    together = network(images)
    for number in range(len(images)):
        alone = network(images[number : number + 1])
        assert torch.equal(alone.bits[0], together.bits[number])
        torch.testing.assert_close(alone.logits[0], together.logits[number], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("distribution", [name for name in HEADS if name != "value"])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_reach_policy_steps_and_weights(
    by_image: NetworkProblem, distribution: str, gradient: str
) -> None:
    agent = make_agent(by_image, distribution=distribution, gradient=gradient, sees=EVERYTHING)
    images, labels = by_image.data.train.images[:32], by_image.data.train.labels[:32]
    controller = Controller(
        agent.policy,
        agent.network.train(),
        agent.costing,
        agent.policy.scene(images, 32),
        torch.full((32,), 0.3),
        temperature=1.0,
        sampling=Sampling(GRADIENTS[gradient], torch.Generator().manual_seed(0)),
    )
    logits = agent.network(by_image.normalize(images), controller)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    if controller.log_probability is not None:
        loss = loss + (controller.log_probability * torch.linspace(-1, 1, 32)).mean()
    loss.backward()
    for name, parameter in agent.policy.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    layer = agent.network.layers[2]
    assert layer.inner.weight.grad is not None
    assert layer.weight_log_step.grad is not None
    assert layer.weight_log_step.grad.abs().sum() > 0


def test_a_tight_budget_takes_fewer_bits(by_image: NetworkProblem) -> None:
    images = by_image.data.test.images
    costs = [
        float(make_agent(by_image, budget=budget).learn().deployed()(images).cost.mean())
        for budget in (0.2, 0.6)
    ]
    assert costs[0] < costs[1]


def test_it_learns_the_same_twice(by_image: NetworkProblem, trained: HybridAgent) -> None:
    again = make_agent(by_image).learn()
    for one, two in zip(
        trained.network.state_dict().values(), again.network.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two)
    for one, two in zip(
        trained.policy.state_dict().values(), again.policy.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two)


def test_save_and_load_give_the_same_agent(trained: HybridAgent, tmp_path: Path) -> None:
    path = tmp_path / "agent.dqmq"
    trained.save(path)
    loaded = HybridAgent.load(path, BitWidthEnv(trained.problem), device="cpu")
    images = trained.problem.data.test.images[:20]
    assert torch.equal(trained.deployed()(images).logits, loaded.deployed()(images).logits)


def test_a_damaged_agent_is_refused(trained: HybridAgent, tmp_path: Path) -> None:
    path = tmp_path / "agent.dqmq"
    trained.save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        HybridAgent.load(path, BitWidthEnv(trained.problem))
    with pytest.raises(CheckpointError, match="no state file"):
        HybridAgent.load(tmp_path / "nothing", BitWidthEnv(trained.problem))


def test_it_plays_the_environment_like_an_sb3_agent(trained: HybridAgent) -> None:
    env = Monitor(BitWidthEnv(trained.problem))
    mean, _ = evaluate_policy(trained, env, n_eval_episodes=2)  # type: ignore[arg-type]
    assert 0 < mean < 1


def test_predict_agrees_for_one_and_for_many(trained: HybridAgent) -> None:
    env = BitWidthEnv(trained.problem)
    rows = [env.reset(seed=0)[0], *(env.step(np.int64(1))[0] for _ in range(3))]
    many, _ = trained.predict(np.stack(rows))
    assert [int(trained.predict(row)[0]) for row in rows] == many.tolist()


def test_an_unreachable_budget_names_the_smallest(tiny_problem: NetworkProblem) -> None:
    with pytest.raises(BudgetError, match=r"budget: got 0\.01, the smallest reachable is 0\.\d+"):
        make_agent(tiny_problem, budget=0.01)


def test_a_callback_ends_training(tiny_problem: NetworkProblem) -> None:
    seen: list[int] = []

    def stop_at_three(step: int) -> bool:
        seen.append(step)
        return step < 3

    make_agent(tiny_problem).learn(stop_at_three)
    assert seen == [1, 2, 3]


# what bits follow


def test_without_draws_the_average_comes_up_to_the_budget(trained: HybridAgent) -> None:
    """On the images that it is settled on: the batches of training, without their draws."""
    batches = MixedQualityBatches(
        trained.problem.data.train, trained.problem.mixture, SCHEDULE.batch, SCHEDULE.seed
    )
    images = [batches.at(step).images for step in range(4)]
    cost = trained.deployed().mean_cost(images)
    assert 0.3 * 0.9 < cost <= 0.3 * 1.002


def test_static_bits_are_the_same_whatever_the_images(static: NetworkProblem) -> None:
    agent = make_agent(static, sees=EVERYTHING).learn()
    clean = agent.deployed()(static.data.test.images)
    noisy = agent.deployed()(255 - static.data.test.images)
    assert torch.equal(clean.bits[0].expand_as(clean.bits), clean.bits)
    assert torch.equal(clean.bits, noisy.bits)
    assert agent.policy.view.bops() == 0
    assert float(clean.cost[0]) <= 0.3


def test_a_batch_shares_its_bits(tiny_problem: NetworkProblem) -> None:
    agent = make_agent(tiny_problem, schedule=Schedule(images=64, batch=32))
    prediction = agent.learn().deployed()(tiny_problem.data.test.images)
    assert len(prediction.bits.unique(dim=0)) == 1
    assert len(prediction.logits) == len(prediction.cost) == len(tiny_problem.data.test)


def test_a_held_budget_bounds_each_image(by_image: NetworkProblem) -> None:
    agent = make_agent(by_image, hold="image", schedule=Schedule(images=320, batch=32)).learn()
    cost = agent.deployed()(mixed_images(by_image)).cost
    assert float(cost.max()) <= 0.3 + 1e-6


def test_one_run_learns_many_budgets(by_image: NetworkProblem) -> None:
    agent = make_agent(by_image, budget=0.6, lowest_budget=0.15).learn()
    images = mixed_images(by_image)
    costs = []
    for budget in (0.15, 0.3, 0.6):
        network = agent.deployed(budget)
        costs.append(float(network(images).cost.mean()))
        network.budget = 0.15
        assert float(network(images).cost.mean()) == pytest.approx(costs[0])
    assert costs == sorted(costs)
    assert costs[0] < 0.2 < costs[1] < 0.4 < costs[2] < 0.65
    with pytest.raises(SettingError, match=r"budget: got 0\.7, allowed is 0\.15 to 0\.6"):
        agent.deployed(0.7)


def test_one_run_by_value_keeps_every_budget(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    """Values are refitted at the rungs of all budgets, and not of the highest alone."""
    problem = make_tiny_problem(bits=(1, 2, 4), weight_bits=2, granularity="image")
    settings = {**BY_VALUE, "search_share": 0.0, "refits": 1, "reach": 1, "ladder": 8}
    agent = make_agent(problem, budget=0.14, lowest_budget=0.09, **settings).learn()
    images = mixed_images(problem, 128)
    for budget in (0.09, 0.14):
        cost = float(agent.deployed(budget)(images).cost.mean())
        assert 0.95 * budget < cost < 1.05 * budget  # 128 images settle it, 128 others judge it


def test_later_decisions_know_what_earlier_layers_saw(by_image: NetworkProblem) -> None:
    """The channels of the first decided layer move what the last one is given."""
    agent = make_agent(by_image, sees=("channels",))
    view = agent.policy.view
    reach = agent.network.layers[1].activation_range
    scene = Scene(torch.zeros(4, 6))
    look = view.look(0, scene, torch.rand(4, 4, 28, 28), reach)
    other = view.look(0, scene, torch.rand(4, 4, 28, 28) * 3, reach)
    budget = torch.zeros(4)
    embeddings = []
    for first in (look, other):
        _, memory = view.embed(0, first, budget, None)
        embedding, _ = view.embed(1, look, budget, memory)
        embeddings.append(embedding)
    assert not torch.allclose(*embeddings)


def test_a_map_tells_what_lies_where(by_image: NetworkProblem) -> None:
    """Images of the same brightness and contrast, in other places, are given other bits."""
    agent = make_agent(by_image, sees=("map",))
    view, reach = agent.policy.view, agent.network.layers[1].activation_range
    left = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    left[..., :14] = 200
    activation = torch.zeros(1, 4, 28, 28)

    def embedding(images: torch.Tensor) -> torch.Tensor:
        look = view.look(0, agent.policy.scene(images, 1), activation, reach)
        return view.embed(0, look, torch.zeros(1), None)[0]

    assert not torch.allclose(embedding(left), embedding(left.flip(3)))


def test_what_is_seen_of_images_needs_no_network(by_image: NetworkProblem) -> None:
    """A policy of images alone is fitted and settled without a pass but that of the float one."""
    by_value = {**BY_VALUE, "search_share": 0.0}
    images = {
        sees: make_agent(by_image, **{**by_value, "sees": (sees,)}).learn().images_settled
        for sees in ("map", "channels")
    }
    assert 0 < images["map"] < images["channels"]


def test_cheap_eyes_cost_less(by_image: NetworkProblem) -> None:
    costs = {
        sees: make_agent(by_image, sees=sees).policy.bops()
        for sees in [("channels",), ("quality",), ("quality", "statistics"), EVERYTHING]
    }
    assert costs[("channels",)] < costs[("quality", "statistics")] < costs[EVERYTHING]
    assert costs[("quality",)] < costs[("quality", "statistics")]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hold": "layer"}, "hold: got 'layer', allowed are"),
        ({"distribution": "beta"}, "distribution: got 'beta', allowed are"),
        ({"gradient": "none"}, "gradient: got 'none', allowed are"),
        ({"sees": ("labels",)}, r"sees: got \['labels'\], allowed are"),
        ({"lowest_budget": 0.5}, "lowest_budget: got 0.5, allowed is above 0 and below"),
        ({"search_share": 0}, "search_share: got 0, allowed is above 0 and up to 1"),
        ({"search_share": 1.5}, "search_share: got 1.5, allowed is above 0 and up to 1"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        HybridSettings(**{"budget": 0.3, **settings})


def test_when_the_policy_has_learned_only_the_weights_go_on(by_image: NetworkProblem) -> None:
    agent = make_agent(by_image, search_share=0.5)
    gains, weights = [], []

    def note(step: int) -> bool:
        gains.append(agent.policy.head.gain.detach().clone())
        weights.append(agent.network.layers[1].inner.weight.detach().clone())
        return True

    agent.learn(note)
    assert not torch.equal(gains[0], gains[19])
    assert all(torch.equal(gains[19], later) for later in gains[20:])
    assert not torch.equal(weights[19], weights[39])
    # the budget was met once when the policy had learned, and once more at the end
    assert agent.images_settled >= 2 * 2 * 128
    assert agent.images_settled % 128 == 0


@pytest.fixture(scope="module")
def by_value(make_tiny_problem: Callable[..., NetworkProblem]) -> HybridAgent:
    problem = make_tiny_problem(bits=(1, 2, 4), weight_bits=2, granularity="image")
    # the policy's own work counts for much in so small a network
    return make_agent(problem, budget=0.11, **BY_VALUE).learn()


def test_one_decision_about_the_network_gives_all_layers_the_same_width(
    by_value: HybridAgent,
) -> None:
    prediction = by_value.deployed()(mixed_images(by_value.problem))
    decided = prediction.bits[:, 1:-1]
    assert (decided == decided[:, :1]).all()
    assert set(decided.unique().tolist()) <= {1, 2, 4}
    assert len(decided[:, 0].unique()) > 1  # some images get more than others


def test_decisions_about_activations_alone_leave_weights_as_they_are(by_value: HybridAgent) -> None:
    images = mixed_images(by_value.problem, 12)
    prediction = by_value.deployed()(images)
    specs = by_value.problem.layers
    for bits, cost in zip(prediction.bits.tolist(), prediction.cost.tolist(), strict=True):
        pairs = {
            spec.name: (8, 8) if number in (0, len(specs) - 1) else (2, width)
            for number, (spec, width) in enumerate(zip(specs, bits, strict=True))
        }
        expected = fraction(Bops(), specs, BitAssignment(pairs)) + by_value.costing.controller
        assert cost == pytest.approx(expected, rel=1e-5)


def test_logits_at_given_bits_are_those_of_the_decisions(by_value: HybridAgent) -> None:
    network, images = by_value.deployed(), mixed_images(by_value.problem, 24)
    prediction = network(images)
    again = network.at_bits(images, prediction.bits)
    torch.testing.assert_close(again, prediction.logits, atol=1e-4, rtol=1e-4)
    wide = prediction.bits.clone()
    wide[:, 1:-1] = 4
    other = network.at_bits(images, wide)
    assert not torch.allclose(other, prediction.logits, atol=1e-3)


@pytest.mark.parametrize("budget", [0.09, 0.1])
def test_the_price_of_values_meets_the_budget_from_below(
    make_tiny_problem: Callable[..., NetworkProblem], budget: float
) -> None:
    problem = make_tiny_problem(bits=(1, 2, 4), weight_bits=2, granularity="image")
    agent = make_agent(problem, budget=budget, settle_images=128, **BY_VALUE).learn()
    cost = float(agent.deployed()(mixed_images(problem, 128)).cost.mean())
    assert 0.85 * budget < cost < 1.15 * budget  # 128 images settle it, 128 others judge it


def test_values_rank_images_by_what_more_bits_save(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    """A policy that sees which images more bits help gives them more."""
    problem = make_tiny_problem(bits=(1, 4), weight_bits=2, granularity="image")
    agent = make_agent(problem, budget=0.12, **{**BY_VALUE, "value_images": 192})
    dynamic = agent.learn().deployed()
    images, labels = problem.data.train.images, problem.data.train.labels
    layers = dynamic.network.layers

    def losses(place: int) -> torch.Tensor:
        def choose(index: int, activation: torch.Tensor) -> Any:
            options = layers[index].options
            return options[min(place, len(options) - 1)]

        logits = dynamic.network(dynamic.normalize(images), choose)
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

    with torch.no_grad():
        saved = losses(0) - losses(1)
    many = dynamic(images).bits[:, 1] == 4
    assert 0 < many.sum() < len(images)
    assert saved[many].mean() > saved[~many].mean()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distribution": "value"}, "allowed is 'network'"),
        ({"search_share": 0.0}, "search_share: got 0.0"),
        ({"refits": 1}, "refits: got 1"),
        ({**BY_VALUE, "refits": -1}, "refits: got -1"),
        ({"decides": "image"}, "decides: got 'image'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        HybridSettings(**settings)


class SureOfBright(torch.nn.Module):
    """The brighter an image, the surer it is of the first class."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(4 * x.mean((1, 2, 3))[:, None] + 3, (0, 9))


def test_images_that_the_float_network_is_unsure_of_get_more_bits(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = make_tiny_problem(bits=(1, 2, 4), weight_bits=2, granularity="image")
    agent = make_agent(problem, budget=0.1, **{**BY_VALUE, "search_share": 0.0})
    dynamic = agent.deployed()
    batches = [
        MixedQualityBatches(problem.data.train, problem.mixture, 96, seed=1).at(step)
        for step in range(2)
    ]
    forecast = Forecast(dynamic, SureOfBright(), range(len(dynamic.policy.levels)))
    fit_values(dynamic, batches, forecast, seed=0)
    assert forecast.images == 192
    meet_budget(dynamic, [batch.images for batch in batches])
    images = mixed_images(problem, 128)
    prediction = dynamic(images)
    brightness = images.float().mean((1, 2, 3))
    together = torch.stack([prediction.bits[:, 1].float(), brightness])
    assert float(torch.corrcoef(together)[0, 1]) < -0.4
    assert 0.08 < float(prediction.cost.mean()) < 0.12


class WorseAtMoreBits:
    """Losses that grow with bits, more so for dark images: nothing asks for the budget."""

    images = 0

    def __init__(self, dynamic: DynamicNetwork) -> None:
        self._dynamic = dynamic
        self.places = range(len(dynamic.policy.levels))

    def __call__(self, batch: Batch) -> tuple[Look, torch.Tensor]:
        look, _ = self._dynamic.look(batch.images)
        dark = 1 - batch.images.float().mean((1, 2, 3)) / 255
        return look, dark[:, None] * torch.tensor([float(place) for place in self.places])


def test_a_budget_is_spent_where_more_bits_seem_to_harm(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = make_tiny_problem(bits=(1, 2, 4), weight_bits=2, granularity="image")
    dynamic = make_agent(problem, budget=0.1, **{**BY_VALUE, "search_share": 0.0}).deployed()
    batches = [
        MixedQualityBatches(problem.data.train, problem.mixture, 96, seed=1).at(step)
        for step in range(2)
    ]
    fit_values(dynamic, batches, WorseAtMoreBits(dynamic), seed=0)
    images = torch.cat([batch.images for batch in batches])
    meet_budget(dynamic, [images])
    cost = float(dynamic(images).cost.mean())
    assert 0.99 * 0.1 <= cost <= 0.1


@pytest.mark.parametrize("budgets", [(0.085, 0.13), (0.081, 0.2)])
def test_budgets_between_knots_are_spent_as_those_at_knots_are(
    make_tiny_problem: Callable[..., NetworkProblem], budgets: tuple[float, float]
) -> None:
    problem = make_tiny_problem(bits=(1, 2, 4), weight_bits=2, granularity="image")
    settings = {**BY_VALUE, "search_share": 0.0, "ladder": 8}
    low, high = budgets
    agent = make_agent(problem, budget=high, lowest_budget=low, **settings)
    dynamic = agent.deployed()
    batches = [
        MixedQualityBatches(problem.data.train, problem.mixture, 200, seed=1).at(step)
        for step in range(4)
    ]
    rungs = range(len(dynamic.policy.levels))
    fit_values(dynamic, batches, Forecast(dynamic, SureOfBright(), rungs), seed=0)
    images = torch.cat([batch.images for batch in batches])
    meet_budget(dynamic, [images])
    dearest = dynamic.costing.of_network[-1]
    for budget in torch.linspace(low, high, 31).clamp(low, high).tolist():
        dynamic.budget = budget
        cost = dynamic.cost_of(dynamic.look(images)[0])
        assert 0.99 * min(budget, dearest) <= cost <= 1.005 * budget


def test_refits_are_counted_and_change_the_policy(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = make_tiny_problem(bits=(1, 4), weight_bits=2, granularity="image")
    agents = [
        make_agent(problem, budget=0.1, refits=refits, **BY_VALUE).learn() for refits in (0, 2)
    ]
    assert agents[1].images_settled > agents[0].images_settled
    gains = [agent.policy.state_dict()["head.gain"] for agent in agents]
    assert not torch.equal(*gains)


def test_to_refit_once_is_to_refit_what_was_trained(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    """The weights are those of a run without refits; the policy and its budget are new."""
    problem = make_tiny_problem(bits=(1, 4), weight_bits=2, granularity="image")
    settings = {**BY_VALUE, "search_share": 0.0}
    never, once = (
        make_agent(problem, budget=0.1, refits=refits, **settings).learn() for refits in (0, 1)
    )
    # norms too are those of the decisions that weights were trained at
    for name, own in never.network.state_dict().items():
        assert torch.equal(own, once.network.state_dict()[name])
    assert not torch.equal(never.policy.head.gain, once.policy.head.gain)
    cost = once.deployed()(mixed_images(problem, 128)).cost
    assert float(cost.mean()) == pytest.approx(0.1, rel=0.1)


def test_a_scale_and_a_shift_of_each_width_change_nothing_at_first(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = make_tiny_problem(bits=(1, 2, 4), weight_bits=2, granularity="image")
    images = mixed_images(problem, 16)
    plain, aligned = (make_agent(problem, budget=0.1, align=align) for align in (False, True))
    bits = torch.full((16, 8), 2)
    bits[:, [0, -1]] = 8
    logits = [agent.deployed().at_bits(images, bits) for agent in (plain, aligned)]
    torch.testing.assert_close(*logits)


def test_aligned_widths_learn_scales_that_folding_keeps(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = make_tiny_problem(bits=(1, 2, 4), weight_bits=2, granularity="image")
    agent = make_agent(problem, budget=0.1, align=True, **BY_VALUE).learn()
    layers = [layer for layer in agent.network.layers if layer.alignment is not None]
    assert len(layers) == 6
    for layer in layers:
        assert layer.alignment is not None
        assert bool((layer.alignment.log_scale[:2] != 0).any())
    images = mixed_images(problem, 32)
    folded = agent.deployed()(images)
    logits = agent._dynamic(0.1).at_bits(images, folded.bits)
    torch.testing.assert_close(folded.logits, logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("decides", ["layer", "network"])
@pytest.mark.parametrize("granularity", ["batch", "static"])
def test_every_granularity_decides_either_way(
    make_tiny_problem: Callable[..., NetworkProblem], granularity: str, decides: str
) -> None:
    problem = make_tiny_problem(bits=(2, 4), weight_bits=3, granularity=granularity)
    agent = make_agent(problem, budget=0.2, decides=decides, gradient="paired").learn()
    bits = agent.deployed()(problem.data.test.images).bits
    assert (bits == bits[:1]).all()  # one decision for all that come together
    assert set(bits[:, 1:-1].unique().tolist()) <= {2, 4}


def test_a_bound_for_each_image_holds_where_one_decision_is_about_the_network(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = make_tiny_problem(bits=(2, 4, 8), granularity="image")
    agent = make_agent(problem, budget=0.4, decides="network", hold="image", gradient="paired")
    cost = agent.learn().deployed()(mixed_images(problem)).cost
    assert float(cost.max()) <= 0.4 + 1e-6


def test_a_loaded_agent_by_value_decides_alike(by_value: HybridAgent, tmp_path: Path) -> None:
    by_value.save(tmp_path / "agent.dqmq")
    loaded = HybridAgent.load(tmp_path / "agent.dqmq", BitWidthEnv(by_value.problem), device="cpu")
    images = mixed_images(by_value.problem, 24)
    own, other = by_value.deployed()(images), loaded.deployed()(images)
    assert torch.equal(own.bits, other.bits)
    assert torch.equal(own.logits, other.logits)


@pytest.mark.parametrize("budget", [0.25, 0.3, 0.37, 0.45])
@pytest.mark.parametrize("distribution", ["logistic", "softmax"])
def test_static_bits_leave_no_room_for_another_raise(
    static: NetworkProblem, budget: float, distribution: str
) -> None:
    agent = make_agent(static, budget=budget, distribution=distribution).learn()
    prediction = agent.deployed()(static.data.test.images[:2])
    cost = float(prediction.cost[0])
    assert cost <= budget + 1e-6
    bits = prediction.bits[0, 1:-1].tolist()
    for row, width in zip(agent.costing.choices, bits, strict=True):
        place = (2, 4, 8).index(width)
        if place < 2:
            assert cost + float(row[place + 1] - row[place]) > budget - 1e-6


def test_static_bits_of_many_budgets_spend_each(static: NetworkProblem) -> None:
    agent = make_agent(static, budget=0.5, lowest_budget=0.2).learn()
    costs = [
        float(agent.deployed(budget)(static.data.test.images[:2]).cost[0])
        for budget in agent.policy.budgets.knots
    ]
    for cost, budget in zip(costs, agent.policy.budgets.knots, strict=True):
        assert cost <= budget + 1e-6
    assert costs[0] < costs[-1]


def test_one_run_by_value_serves_many_budgets(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = make_tiny_problem(bits=(1, 2, 4), weight_bits=2, granularity="image")
    agent = make_agent(problem, budget=0.12, lowest_budget=0.09, **BY_VALUE).learn()
    images = mixed_images(problem, 192)
    budgets = (0.09, 0.1, 0.12)
    costs = [float(agent.deployed(budget)(images).cost.mean()) for budget in budgets]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]
    for budget, cost in zip(budgets, costs, strict=True):
        assert cost < 1.1 * budget  # wide bits need not be of use, so it may be less


def test_norms_are_measured_at_all_budgets_that_are_learned(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = make_tiny_problem(bits=(1, 2, 4), weight_bits=2, granularity="image")
    settings = {**BY_VALUE, "reach": 1, "align": True}
    agent = make_agent(problem, budget=0.2, lowest_budget=0.08, **settings).learn()
    images = mixed_images(problem, 192)
    lowest, highest = (agent.deployed(budget)(images).bits for budget in (0.08, 0.2))
    apart = 0
    for layer in agent.network.layers[1:-1]:
        assert layer.alignment is not None
        least, most = (set(bits[:, layer.index].tolist()) for bits in (lowest, highest))
        apart += not least & most
        for width in least | most:
            assert layer.alignment.images[layer.widths.index(width)] > 0
    assert apart  # some layers have other bits at the one than at the other, whatever the image


def test_one_look_tells_what_images_cost(by_value: HybridAgent) -> None:
    images = mixed_images(by_value.problem, 96)
    for budget in (0.08, 0.09):
        dynamic = by_value.deployed()
        dynamic.budget = budget
        assert dynamic.looks_once
        look, _ = dynamic.at_place(images, 0)
        assert dynamic.cost_of(look) == pytest.approx(dynamic.mean_cost([images]), rel=1e-5)


def test_a_policy_that_looks_once_settles_with_few_passes(by_value: HybridAgent) -> None:
    # values: 64 images at three widths; 128 images for batch norms
    assert by_value.images_settled == 3 * 64 + 128


def test_an_episode_repeats_the_decision_about_the_network(by_value: HybridAgent) -> None:
    env = BitWidthEnv(by_value.problem)
    observation, info = env.reset(seed=0)
    done = False
    while not done:
        action, _ = by_value.predict(observation)
        observation, _, done, _, info = env.step(action)
    widths = [activation for _, activation in list(info["assignment"].values())[1:-1]]
    assert len(set(widths)) == 1
