from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from baselines.haq.ddpg import DDPG, DDPGSettings, MovingMean, truncated_normal
from baselines.haq.memory import Memory
from baselines.haq.network import Network
from dqmq_env.errors import SettingError

STATE = np.array([0.2, 0.5, 1.0], np.float32)


def agent(seed: int = 0, **settings: Any) -> DDPG:
    return DDPG(DDPGSettings(**({"hidden": 32} | settings)), 3, 2, (seed, "test"))


def mean_action(made: DDPG, state: NDArray[np.float32] = STATE) -> float:
    return float(made.actor(torch.from_numpy(state[None])).output.sigmoid())


def draws(made: DDPG, episode: int, count: int = 400) -> NDArray[np.float64]:
    return np.array([made.act(STATE, episode) for _ in range(count)])


# exploration


@pytest.mark.parametrize(("mean", "sigma"), [(0.5, 0.5), (0.02, 0.3), (1.0, 0.1), (0.7, 0.01)])
def test_noise_is_a_truncated_normal(mean: float, sigma: float) -> None:
    generator = np.random.default_rng(0)
    found = np.array([truncated_normal(mean, sigma, generator) for _ in range(4000)])
    assert found.min() >= 0
    assert found.max() <= 1
    exact = stats.truncnorm(-mean / sigma, (1 - mean) / sigma, mean, sigma)
    assert stats.kstest(found, exact.cdf).pvalue > 0.01


def test_noise_falls_as_in_haq() -> None:
    sigma = DDPGSettings().sigma
    found = [sigma(episode) for episode in (20, 100, 300, 599)]
    assert found == pytest.approx([0.5, 0.22, 0.03, 0.0015], rel=0.03)
    assert DDPGSettings(warm_up=5, noise=0.2, noise_decay=0.5).sigma(7) == pytest.approx(0.05)


def test_the_first_21_episodes_are_uniformly_random_and_learn_nothing() -> None:
    made = agent(noise=1e-6)
    before = mean_action(made)
    states = np.stack([STATE] * 4)
    for episode in (0, 10, 20):
        assert stats.kstest(draws(made, episode), "uniform").pvalue > 0.01
        made.learn(states, np.linspace(0, 1, 4), np.ones(4), episode)
    assert mean_action(made) == before
    assert draws(made, 21) == pytest.approx(before, abs=1e-5)
    made.learn(states, np.linspace(0, 1, 4), np.ones(4), 21)
    assert mean_action(made) != before


# rewards and memory


def test_the_baseline_moves_half_way() -> None:
    baseline = MovingMean(0.5)
    assert [baseline.follow(value) for value in (4, 2, 1, 5)] == [4, 3, 2, 3.5]


def test_a_constant_added_to_all_rewards_changes_nothing() -> None:
    found = []
    for constant in (0.0, 3.0):
        made, generator = agent(warm_up=0), np.random.default_rng(0)
        for episode in range(12):
            actions = generator.random(4)
            rewards = np.full(4, constant - actions.mean())
            made.learn(np.stack([STATE] * 4), actions, rewards, episode)
        found.append(mean_action(made))
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def filled(episodes: int, capacity: int = 1000, filler: bool = True) -> Memory:
    """Episodes of three steps; a state is its number, an action a fraction of it."""
    memory, number = Memory(capacity, 1), 0
    for _ in range(episodes):
        for step in range(3 + filler):
            state = np.array([number], np.float32)
            memory.add(state, number / 1000, float(number), step == 2, filler=step == 3)
            number += 1
    return memory


def test_the_next_state_is_that_of_the_entry_after() -> None:
    batch = filled(20).sample(40, np.random.default_rng(0))
    assert (batch.next_states == batch.states + 1).all()
    assert batch.actions == pytest.approx(batch.states / 1000)
    assert (batch.rewards == batch.states).all()
    assert ((batch.states % 4 == 2) == (batch.going_on == 0)).all()


def test_fillers_and_the_newest_entry_are_not_drawn() -> None:
    memory, generator = filled(5), np.random.default_rng(0)
    drawn = {int(s) for _ in range(50) for s in memory.sample(10, generator).states}
    assert drawn == {number for number in range(19) if number % 4 != 3}
    drawn = {int(s) for _ in range(20) for s in filled(2, filler=False).sample(9, generator).states}
    assert drawn == set(range(5))  # of six entries; there are too few for different ones


def test_the_oldest_entries_make_room() -> None:
    memory, generator = filled(20, capacity=9), np.random.default_rng(0)
    assert len(memory) == 9
    drawn = {int(s) for _ in range(60) for s in memory.sample(6, generator).states}
    # 71 is a filler, but the oldest entry
    assert drawn == {71, 72, 73, 74, 76, 77, 78}


# learning


def test_weights_are_drawn_as_pytorch_does() -> None:
    network = Network(9, 300, torch.Generator().manual_seed(0))
    hidden = network.weights[2700 + 300 : 2700 + 300 + 90000]
    for part, bound in ((network.input_weights, 1 / 3), (hidden, 300**-0.5)):
        assert part.abs().max() == pytest.approx(bound, rel=0.01)
        assert part.std() == pytest.approx(bound / 3**0.5, rel=0.05)


def _layers(inputs: int, hidden: int = 32) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 1),
    )


def test_gradients_are_those_of_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    network = Network(4, 16, generator)
    reference = _layers(4, 16)
    vector_to_parameters(network.weights, reference.parameters())
    x = torch.rand(5, 4, generator=generator, requires_grad=True)
    slope = torch.rand(5, 1, generator=generator)
    reference(x).backward(slope)
    run = network(x.detach())
    network.differentiate(run, slope)
    grads = parameters_to_vector([p.grad for p in reference.parameters() if p.grad is not None])
    assert run.output == pytest.approx(reference(x).detach(), abs=1e-6)
    assert network.gradient == pytest.approx(grads, abs=1e-6)
    assert x.grad is not None
    assert network.input_slope(run, slope, 2)[:, 0] == pytest.approx(x.grad[:, 2], abs=1e-6)


class _Critic(nn.Module):
    """HAQ's: a layer for the state and one for the action, added up."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.state, self.action = nn.Linear(3, 32), nn.Linear(1, 32)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
        first, rest = network.weights.split([32 * 5, len(network.weights) - 32 * 5])
        columns = first.view(32, 5)
        state = torch.cat([columns[:, :3].flatten(), rest[:32]])
        vector_to_parameters(state, self.state.parameters())
        vector_to_parameters(columns[:, 3:].t().flatten(), self.action.parameters())
        vector_to_parameters(rest[32:], self.rest.parameters())

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        value: Tensor = self.rest(self.state(state) + self.action(action))
        return value


def test_updates_are_those_of_haqs_networks() -> None:
    made = agent(batch=12, tau=0.3, actor_rate=1e-3)
    actors = [nn.Sequential(_layers(3), nn.Sigmoid()) for _ in range(2)]
    critics = [_Critic(made.critic), _Critic(made.critic)]
    for actor in actors:
        vector_to_parameters(made.actor.weights, actor.parameters())
    optimizers = [
        torch.optim.Adam(actors[0].parameters(), 1e-3),
        torch.optim.Adam(critics[0].parameters(), 1e-3),
    ]
    generator = np.random.default_rng(0)
    # a batch is the whole memory, but for the newest entry
    states = generator.random((13, 3), np.float32)
    actions, rewards = generator.random((2, 13)).astype(np.float32)
    ends = np.arange(13) % 3 == 2
    for row in zip(states, actions, rewards, ends, strict=True):
        made.memory.add(*row)
    s, n = torch.from_numpy(states[:-1]), torch.from_numpy(states[1:])
    a, r = torch.from_numpy(actions[:-1, None]), torch.from_numpy(rewards[:-1, None])
    going_on = 1 - torch.from_numpy(ends[:-1, None]).float()
    for _ in range(6):
        made.update()
        with torch.no_grad():
            wanted = r - r.mean() + going_on * critics[1](n, actors[1](n))
        optimizers[1].zero_grad()
        F.mse_loss(critics[0](s, a), wanted).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        (-critics[0](s, actors[0](s)).mean()).backward()
        optimizers[0].step()
        with torch.no_grad():
            for new, old in (actors, critics):
                for p, q in zip(new.parameters(), old.parameters(), strict=True):
                    q.copy_(0.7 * q + 0.3 * p)
    started = DDPG(made.settings, 3, 2, (0, "test")).actor(s).output.sigmoid()
    assert (actors[0](s) - started).abs().max() > 0.002
    assert made.actor(s).output.sigmoid() == pytest.approx(actors[0](s).detach(), abs=1e-4)
    inputs = torch.cat([s, a, torch.ones(12, 1)], 1)
    assert made.critic(inputs).output == pytest.approx(critics[0](s, a).detach(), abs=1e-3)


def test_it_learns_which_actions_are_rewarded() -> None:
    made = agent(actor_rate=1e-3, warm_up=10)
    states = np.array([[0, 0, 1], [1, 0, 0]], np.float32)
    for episode in range(250):
        taken = np.array([made.act(state, episode) for state in states])
        reward = -10 * np.abs(taken - [0.2, 0.9]).sum()
        made.learn(states, taken, np.full(2, reward), episode)
    found = [mean_action(made, state) for state in states]
    assert found == pytest.approx([0.2, 0.9], abs=0.12)


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden", 0), ("memory", 1), ("noise", 0.0), ("tau", 1.5), ("noise_decay", float("nan"))],
)
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(SettingError, match=f"{name}: got {value}"):
        DDPGSettings(**{name: value})  # type: ignore[arg-type]
