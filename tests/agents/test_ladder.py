"""One decision about the network, between rungs of a ladder."""

from collections.abc import Callable, Sequence
from itertools import pairwise, permutations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.hybrid.agent import HybridAgent
from agents.hybrid.controller import Controller
from agents.hybrid.heads import ValueHead
from agents.hybrid.ladder import Ladder
from agents.hybrid.settings import HybridSettings
from dqmq_env.costs import Bops, fraction
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.training.loop import Schedule

BY_VALUE: dict[str, Any] = {
    "decides": "network",
    "distribution": "value",
    "search_share": 0.0,
    "value_images": 128,
}
RUNGS = [[1] * 6, [1, 1, 2, 1, 2, 2], [2] * 6, [2, 2, 4, 2, 4, 4], [4] * 6]


def make_agent(problem: NetworkProblem, **settings: Any) -> HybridAgent:
    own = HybridSettings(**{"budget": 0.09, "settle_images": 128, "sees": ("map",), **settings})
    schedule = Schedule(images=30 * 32, batch=32)
    return HybridAgent(BitWidthEnv(problem), own, schedule, device="cpu")


def mixed_images(problem: NetworkProblem, count: int = 96) -> torch.Tensor:
    return MixedQualityBatches(problem.data.train, problem.mixture, count, seed=5).at(0).images


@pytest.fixture(scope="module")
def make_problem(make_tiny_problem: Callable[..., NetworkProblem]) -> Callable[..., NetworkProblem]:
    return lambda granularity: make_tiny_problem(
        bits=(1, 2, 4), weight_bits=2, granularity=granularity
    )


@pytest.fixture(scope="module")
def by_image(make_problem: Callable[..., NetworkProblem]) -> HybridAgent:
    return make_agent(make_problem("image"), ladder=2, align=True, explore=0.25, **BY_VALUE).learn()


def least_bits(places: Sequence[int], costs: Sequence[float]) -> float:
    """What places cost where each next one of a layer costs more than the one before."""
    return sum(cost * place * (place + 3) for place, cost in zip(places, costs, strict=True))


def turn(costs: Sequence[float], place: int, layer: int) -> tuple[float, int, int]:
    """When a layer is raised by a bit from a place: by cost for the noise that it takes away."""
    return costs[layer] / (4.0**-place - 4.0 ** -(place + 1)), place, -layer


LADDERS = (
    st.integers(2, 6),
    st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=20),
    st.integers(1, 25),
)


@given(*LADDERS)
def test_a_ladder_climbs_from_the_lowest_width_to_the_highest(
    widths: int, costs: list[float], parts: int
) -> None:
    layers = len(costs)
    ladder = Ladder.by_cost(range(widths), costs, parts)
    assert ladder.rungs[0] == (0,) * layers
    assert ladder.rungs[-1] == (widths - 1,) * layers
    assert len(ladder.rungs) == min(parts, layers) * (widths - 1) + 1
    assert ladder.levels == pytest.approx([sum(rung) / layers for rung in ladder.rungs])
    for lower, higher in pairwise(ladder.rungs):
        raised = [after - before for before, after in zip(lower, higher, strict=True)]
        assert min(raised) >= 0
        assert sum(raised) > 0
    for rung in ladder.rungs:  # what was raised comes before what was not
        for one, other in permutations(range(layers), 2):
            if rung[one] > 0 and rung[other] < widths - 1:
                assert turn(costs, rung[one] - 1, one) < turn(costs, rung[other], other)


def test_a_bit_is_worth_the_next_one_where_it_costs_a_quarter() -> None:
    ladder = Ladder.by_cost((1, 2, 3, 4), [1.0, 3.9, 1.0, 4.1, 16.5], 5)
    assert ladder.rungs[1:8] == (
        (0, 0, 1, 0, 0),
        (1, 0, 1, 0, 0),
        (1, 1, 1, 0, 0),
        (1, 1, 2, 0, 0),
        (2, 1, 2, 0, 0),
        (2, 1, 2, 1, 0),
        (2, 2, 2, 1, 0),
    )
    coarse = Ladder.by_cost((1, 2, 3, 4), [1.0, 3.9, 1.0, 4.1, 16.5], 1)
    assert coarse.rungs == tuple(ladder.rungs[number] for number in (0, 5, 10, 15))


def test_a_raise_by_several_bits_is_worth_the_noise_that_it_takes_away() -> None:
    # two bits more for 2 c take away 4^-2 - 4^-4, four bits more for 4 c 4^-4 - 4^-8: 30 times less
    ladder = Ladder.by_cost((2, 4, 8), [1.0, 29.0, 31.0], 3)
    order = [(1, 0, 0), (1, 1, 0), (2, 1, 0), (2, 1, 1), (2, 2, 1), (2, 2, 2)]
    assert ladder.rungs[1:] == tuple(order)


@given(*LADDERS, st.floats(-0.1, 1.2))
def test_a_rung_is_put_where_a_budget_is_not_spent(
    widths: int, costs: list[float], parts: int, share: float
) -> None:
    def cost_of(places: Sequence[int]) -> float:
        return least_bits(places, costs)

    plain = Ladder.by_cost(range(widths), costs, parts)
    budget = share * cost_of(plain.rungs[-1])
    full = plain.topped_up(cost_of, budget)
    assert full.topped_up(cost_of, budget) == full
    fitting = [rung for rung in full.rungs if cost_of(rung) <= budget]
    if not fitting:
        assert full == plain
        return
    for layer, place in enumerate(fitting[-1]):
        raised = [*fitting[-1][:layer], place + 1, *fitting[-1][layer + 1 :]]
        assert place == widths - 1 or cost_of(raised) > budget
    assert [rung for rung in full.rungs if rung in plain.rungs] == list(plain.rungs)
    spent = [cost_of(rung) for rung in full.rungs]
    assert spent == sorted(spent)
    assert list(full.levels) == sorted(full.levels)
    assert len(full.levels) == len(full.rungs) <= len(plain.rungs) + 1


def test_images_get_rungs_and_the_budget_is_met(by_image: HybridAgent) -> None:
    prediction = by_image.deployed()(mixed_images(by_image.problem, 192))
    rungs = prediction.bits[:, 1:-1].tolist()
    assert all(own in RUNGS for own in rungs)
    assert len({tuple(own) for own in rungs}) > 1
    assert float(prediction.cost.mean()) == pytest.approx(0.09, rel=0.1)
    specs = by_image.problem.layers
    for bits, cost in zip(prediction.bits.tolist()[:8], prediction.cost.tolist(), strict=False):
        pairs = {
            spec.name: (8, 8) if number in (0, len(specs) - 1) else (2, width)
            for number, (spec, width) in enumerate(zip(specs, bits, strict=True))
        }
        expected = fraction(Bops(), specs, BitAssignment(pairs)) + by_image.costing.controller
        assert cost == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sees", [("map",), ("quality",), ("quality", "statistics")])
def test_an_episode_goes_along_one_rung(
    make_problem: Callable[..., NetworkProblem], sees: tuple[str, ...]
) -> None:
    problem = make_problem("batch")
    agent = make_agent(problem, ladder=2, **{**BY_VALUE, "sees": sees}).learn()
    env = BitWidthEnv(problem)
    for seed in range(4):
        observation, info = env.reset(seed=seed)
        done = False
        while not done:
            action, _ = agent.predict(observation)
            observation, _, done, _, info = env.step(action)
        bits = [activation for _, activation in list(info["assignment"].values())[1:-1]]
        assert bits in RUNGS


@pytest.mark.parametrize("budget", [0.085, 0.09, 0.1, 0.12])
@pytest.mark.parametrize(("granularity", "follow"), [("static", ("bits",)), ("image", ("grids",))])
def test_bits_that_follow_no_image_spend_the_budget(
    make_problem: Callable[..., NetworkProblem],
    budget: float,
    granularity: str,
    follow: tuple[str, ...],
) -> None:
    own = {**BY_VALUE, "budget": budget, "follow": follow, "ladder": 99}
    agent = make_agent(make_problem(granularity), **own).learn()
    prediction = agent.deployed()(mixed_images(agent.problem, 4))
    assert len(prediction.bits.unique(dim=0)) == 1
    pairs = [(2, bits) for bits in prediction.bits[0].tolist()]
    pairs[0] = pairs[-1] = (8, 8)
    specs = agent.problem.layers

    def cost_of(bits: list[tuple[int, int]]) -> float:
        named = zip([spec.name for spec in specs], bits, strict=True)
        return fraction(Bops(), specs, BitAssignment(dict(named))) + agent.costing.controller

    assert float(prediction.cost[0]) == pytest.approx(cost_of(pairs), rel=1e-5)
    assert cost_of(pairs) <= budget
    for number in range(1, len(pairs) - 1):
        above = [width for width in (1, 2, 4) if width > pairs[number][1]][:1]
        for width in above:
            raised = [*pairs[:number], (2, width), *pairs[number + 1 :]]
            assert cost_of(raised) > budget


@pytest.mark.parametrize("seed", range(4))
def test_what_is_forecast_for_all_images_alike_is_their_mean(
    make_problem: Callable[..., NetworkProblem], seed: int
) -> None:
    problem = make_problem("image")
    own = {**BY_VALUE, "budget": 0.12, "sees": ("map",), "follow": ("input",), "ladder": 99}
    schedule = Schedule(images=256, batch=128, seed=seed)
    settings = HybridSettings(**own, settle_images=128)
    agent = HybridAgent(BitWidthEnv(problem), settings, schedule, device="cpu").learn()
    head = agent.policy.head
    assert isinstance(head, ValueHead)
    values = head.values(0, torch.zeros(1, 0)).detach()[0, head.offered]
    noise = torch.tensor([4.0**-bits for bits in agent.costing.as_uniform])[head.offered]
    assert len(values) > 2
    each = values.diff() / noise.diff()  # the mean entropy, by which losses grow with noise
    assert each.numpy() == pytest.approx(float(each.mean()), rel=1e-3)


def test_exploring_swaps_decisions_within_the_batch(by_image: HybridAgent) -> None:
    images = mixed_images(by_image.problem, 32)
    dynamic = by_image.deployed()
    scene = by_image.policy.scene(images, 32)
    budget = torch.full((32,), 0.09)
    order = torch.arange(32)
    order[[3, 5, 8]] = torch.tensor([5, 8, 3])
    plain, swapped = (
        Controller(dynamic.policy, dynamic.network, dynamic.costing, scene, budget, 0.1, order=own)
        for own in (None, order)
    )
    for controller in (plain, swapped):
        with torch.no_grad():
            dynamic.network(dynamic.normalize(images), controller)
    assert torch.equal(swapped.bits, plain.bits[order])
    assert torch.equal(swapped.cost(), plain.cost()[order])


def test_exploring_changes_what_weights_learn_and_not_what_bits_cost(
    make_problem: Callable[..., NetworkProblem],
) -> None:
    problem = make_problem("image")
    plain, exploring = (
        make_agent(problem, ladder=2, explore=share, **BY_VALUE).learn() for share in (0.0, 0.5)
    )
    states = [agent.network.state_dict() for agent in (plain, exploring)]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    for agent in (plain, exploring):
        cost = agent.deployed()(mixed_images(problem, 192)).cost
        assert float(cost.mean()) == pytest.approx(0.09, rel=0.1)


def test_rungs_that_were_not_trained_are_not_measured_nor_taken(
    make_problem: Callable[..., NetworkProblem],
) -> None:
    agent = make_agent(make_problem("image"), ladder=2, refits=1, **BY_VALUE).learn()
    offered = int(agent.policy.head.offered.sum())
    assert 1 < offered < len(RUNGS)
    # a pass in float to forecast, one for norms, one at each rung in use
    assert agent.images_settled == 128 * (2 + offered)
    agent.policy.shift.fill_(9.0)  # bits cost nothing
    bits = agent.deployed()(mixed_images(agent.problem)).bits[:, 1:-1]
    taken = {RUNGS.index(own) for own in bits.tolist()}
    assert taken <= set(agent.policy.head.offered.nonzero()[:, 0].tolist())


@pytest.mark.parametrize(
    "settings", [{"ladder": 0}, {"ladder": 2}, {"explore": -0.1}, {"explore": 1.5}]
)
def test_settings_out_of_reach_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(settings))):
        HybridSettings(**settings)


@given(
    st.integers(0, 12),
    st.integers(0, 12),
    st.floats(0, 1),
    st.one_of(st.none(), st.integers(1, 15)),
)
def test_rungs_within_reach_hold_those_next_to_the_budgets(
    by_image: HybridAgent, first: int, second: int, share: float, reach: int | None
) -> None:
    costs = by_image.costing.of_network
    last = len(costs) - 1
    low, high = sorted(
        costs[min(own, last - 1)] * (1 - share) + costs[min(own, last - 1) + 1] * share
        for own in (first, second)
    )
    found = by_image.costing.within((low, high), reach)
    assert found == list(range(found[0], found[-1] + 1))
    if reach is None:
        assert found == list(range(len(costs)))
        return
    assert costs[found[0]] <= low
    assert costs[found[-1]] >= high
    below = [place for place, cost in enumerate(costs) if cost <= low]
    above = [place for place, cost in enumerate(costs) if cost >= high]
    assert found[0] == max(0, below[-1] + 1 - reach)
    assert found[-1] == min(last, above[0] - 1 + reach)


def test_images_take_no_rung_out_of_reach(make_problem: Callable[..., NetworkProblem]) -> None:
    agent = make_agent(make_problem("image"), ladder=6, reach=1, refits=1, **BY_VALUE).learn()
    prediction = agent.deployed()(mixed_images(agent.problem, 192))
    costs = agent.costing.of_network
    near = [max(own for own in costs if own <= 0.09), min(own for own in costs if own >= 0.09)]
    assert sorted(prediction.cost.unique().tolist()) == pytest.approx(near)
    assert float(prediction.cost.mean()) == pytest.approx(0.09, rel=0.02)


@pytest.mark.parametrize("settings", [{"reach": 0, **BY_VALUE}, {"reach": 2}])
def test_a_reach_is_of_rungs_that_are_chosen_by_value(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=f"reach: got {settings['reach']}"):
        HybridSettings(**settings)
