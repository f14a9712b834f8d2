from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from agents.hybrid.agent import HybridAgent
from agents.hybrid.controller import Controller
from agents.hybrid.objective import HybridSettings
from dqmq_env.costs import Bops, fraction
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import BudgetError, CheckpointError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quality import describe
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.training.loop import Schedule

SCHEDULE = Schedule(images=40 * 32, batch=32, save_every=10)


def make_agent(problem: NetworkProblem, **settings: float) -> HybridAgent:
    env = BitWidthEnv(problem)
    return HybridAgent(env, HybridSettings(**{"budget": 0.3, **settings}), SCHEDULE, device="cpu")


@pytest.fixture(scope="module")
def trained(tiny_problem: NetworkProblem) -> HybridAgent:
    return make_agent(tiny_problem).learn()


def test_the_budget_is_met_on_average_and_bits_are_candidates(trained: HybridAgent) -> None:
    images = trained.problem.data.test.images
    prediction = trained.deployed()(images)
    assert prediction.logits.shape == (len(images), 10)
    assert set(prediction.bits[:, 1:-1].unique().tolist()) <= {2, 4, 8}
    assert (prediction.bits[:, [0, -1]] == 8).all()
    assert float(prediction.cost.mean()) == pytest.approx(0.3, rel=0.25)


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


def test_gradients_reach_policy_steps_and_weights(tiny_problem: NetworkProblem) -> None:
    agent = make_agent(tiny_problem)
    images = tiny_problem.data.train.images[:16]
    controller = Controller(
        agent.policy,
        agent.network.train(),
        agent.costing,
        describe(images),
        temperature=1.0,
        generator=torch.Generator().manual_seed(0),
    )
    logits = agent.network(tiny_problem.normalize(images), controller)
    torch.nn.functional.cross_entropy(logits, tiny_problem.data.train.labels[:16]).backward()
    for name, parameter in agent.policy.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    layer = agent.network.layers[2]
    assert layer.inner.weight.grad is not None
    assert layer.weight_log_step.grad is not None
    assert layer.weight_log_step.grad.abs().sum() > 0


def test_a_tight_budget_takes_fewer_bits(tiny_problem: NetworkProblem) -> None:
    images = tiny_problem.data.test.images
    costs = [
        float(make_agent(tiny_problem, budget=budget).learn().deployed()(images).cost.mean())
        for budget in (0.2, 0.6)
    ]
    assert costs[0] < costs[1]


def test_it_learns_the_same_twice(tiny_problem: NetworkProblem, trained: HybridAgent) -> None:
    again = make_agent(tiny_problem).learn()
    for one, two in zip(
        trained.network.state_dict().values(), again.network.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two)
    assert torch.equal(trained.policy.gain, again.policy.gain)


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
