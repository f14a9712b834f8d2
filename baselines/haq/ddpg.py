"""HAQ's agent: deep deterministic policy gradients with noise cut to [0, 1]."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from torch import Tensor

from baselines.haq.memory import Memory, Transitions
from baselines.haq.network import Network, Pass
from dqmq_env.errors import SettingError
from dqmq_env.randomness import numpy_generator, torch_generator

_LEAST_NOISE = 1e-9


@dataclass(frozen=True)
class DDPGSettings:
    """Numbers of the agent; the defaults are those of HAQ's rl_quantize.py.

    Attributes:
        hidden: units in each of the two hidden layers of actor and critic.
        actor_rate: learning rate of Adam.
        critic_rate: the same for the critic.
        tau: share of the networks that goes into the target networks at each update.
        discount: of the future, in [0, 1].
        batch: transitions in an update.
        memory: entries in the replay memory for each decided layer.
        baseline_alpha: share of a batch's mean reward that goes into the moving mean, which is
            taken off all rewards.
        warm_up: number of the last episode, counted from 0, whose actions are uniformly random.
        noise: standard deviation of the noise in that episode.
        noise_decay: factor on it from each episode to the next.

    Raises:
        SettingError: a number is out of range.
    """

    hidden: int = 300
    actor_rate: float = 1e-4
    critic_rate: float = 1e-3
    tau: float = 0.01
    discount: float = 1.0
    batch: int = 64
    memory: int = 128
    baseline_alpha: float = 0.5
    warm_up: int = 20
    noise: float = 0.5
    noise_decay: float = 0.99

    def __post_init__(self) -> None:
        for name, least in (("hidden", 1), ("batch", 1), ("memory", 2), ("warm_up", 0)):
            if getattr(self, name) < least:
                raise SettingError(f"{name}: got {getattr(self, name)}, allowed is {least} or more")
        for name in ("actor_rate", "critic_rate", "noise"):
            if not getattr(self, name) > 0:
                raise SettingError(f"{name}: got {getattr(self, name)}, allowed is above 0")
        for name in ("tau", "discount", "baseline_alpha", "noise_decay"):
            if not 0 < getattr(self, name) <= 1:
                raise SettingError(f"{name}: got {getattr(self, name)}, allowed is above 0, to 1")

    def sigma(self, episode: int) -> float:
        """Standard deviation of the noise in an episode, counted from 0."""
        return max(self.noise * self.noise_decay ** (episode - self.warm_up), _LEAST_NOISE)


def truncated_normal(mean: float, sigma: float, generator: np.random.Generator) -> float:
    """A normal number under the condition that it lies in [0, 1], where ``mean`` lies too."""
    low, high = ndtr(-mean / sigma), ndtr((1 - mean) / sigma)
    drawn = mean + sigma * ndtri(low + generator.random() * (high - low))
    return float(np.clip(drawn, 0.0, 1.0))


class MovingMean:
    """A mean of numbers that forgets exponentially; the first one starts it.

    Args:
        alpha: share of the newest number.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._mean: float | None = None

    def follow(self, value: float) -> float:
        """Take in a number; gives the mean with it."""
        if self._mean is None:
            self._mean = value
        self._mean += self._alpha * (value - self._mean)
        return self._mean


class DDPG:
    """Chooses actions, remembers what came of them, and learns from it.

    Args:
        settings: its numbers.
        features: length of a state.
        layers: number of decided layers, which the size of the memory goes by.
        seed: names everything drawn.

    Attributes:
        memory: what it learns from.
        actor: gives actions before the sigmoid, of states.
        critic: gives values, of states, each followed by the action and a 1.
    """

    def __init__(
        self, settings: DDPGSettings, features: int, layers: int, seed: tuple[int | str, ...]
    ) -> None:
        self.settings = settings
        self.memory = Memory(settings.memory * layers, features)
        weights = torch_generator(*seed, "weights")
        self.actor = Network(features, settings.hidden, weights)
        # the critic's first layer is a sum of two, one of the state and one of the action, each
        # with a bias: the last input, which is always 1, meets the second bias
        self.critic = Network(features + 2, settings.hidden, weights, fan_in=features)
        self.critic.input_weights[:, features:].uniform_(-1, 1, generator=weights)
        self._old_actor, self._old_critic = self.actor.copy(), self.critic.copy()
        self._drawn = numpy_generator(*seed, "actions")
        self._sampled = numpy_generator(*seed, "replay")
        self._filling = numpy_generator(*seed, "fillers")
        self._baseline = MovingMean(settings.baseline_alpha)
        self._step_actor = _adam(self.actor, settings.actor_rate)
        self._step_critic = _adam(self.critic, settings.critic_rate)
        self._ones = torch.ones(settings.batch, 1)

    def act(self, state: NDArray[np.float32], episode: int) -> float:
        """An action in [0, 1]: uniformly random at first, then the actor's with noise.

        Args:
            state: shape (features,).
            episode: its number, counted from 0.
        """
        if episode <= self.settings.warm_up:
            return float(self._drawn.random())
        return self._noisy(state, episode, self._drawn)

    def learn(
        self,
        states: NDArray[np.float32],
        actions: NDArray[np.float64],
        rewards: NDArray[np.float64],
        episode: int,
    ) -> None:
        """Remember an episode, with one update for each of its transitions after the warm-up.

        Args:
            states: shape (steps, features).
            actions: shape (steps,).
            rewards: shape (steps,).
            episode: its number, counted from 0.
        """
        for step, state in enumerate(states):
            last = step == len(states) - 1
            self.memory.add(state, float(actions[step]), float(rewards[step]), last)
            if episode > self.settings.warm_up:
                self.update()

    def fill(self, state: NDArray[np.float32], episode: int) -> None:
        """Remember a further action that is not taken, in the last state of an episode."""
        action = self._noisy(state, episode, self._filling)
        self.memory.add(state, action, 0.0, last=False, filler=True)

    def update(self) -> None:
        """One step of the critic, one of the actor, and the target networks after them."""
        batch = self.memory.sample(self.settings.batch, self._sampled)
        rewards = batch.rewards - self._baseline.follow(float(batch.rewards.mean()))
        following = self._old_actor(batch.next_states).output.sigmoid_()
        worth = self._value(self._old_critic, batch.next_states, following).output
        wanted = rewards + self.settings.discount * batch.going_on * worth
        self._improve_critic(batch, wanted)
        self._improve_actor(batch.states)
        self._old_actor.follow(self.actor, self.settings.tau)
        self._old_critic.follow(self.critic, self.settings.tau)

    def _improve_critic(self, batch: Transitions, wanted: Tensor) -> None:
        """Down the gradient of the mean squared error."""
        run = self._value(self.critic, batch.states, batch.actions)
        self.critic.differentiate(run, (run.output - wanted) * (2 / len(wanted)))
        self._step_critic()

    def _improve_actor(self, states: Tensor) -> None:
        """Up the gradient of the mean value of what the actor would do."""
        run = self.actor(states)
        actions = run.output.sigmoid()
        value = self._value(self.critic, states, actions)
        slope = self.critic.input_slope(value, self._ones / -len(states), states.shape[1])
        self.actor.differentiate(run, slope * actions * (1 - actions))
        self._step_actor()

    def _value(self, critic: Network, states: Tensor, actions: Tensor) -> Pass:
        """What actions (N, 1) are worth in states (N, features)."""
        return critic(torch.cat([states, actions, self._ones], 1))

    def _noisy(
        self, state: NDArray[np.float32], episode: int, generator: np.random.Generator
    ) -> float:
        mean = float(self.actor(torch.from_numpy(state[None])).output.sigmoid())
        return truncated_normal(mean, self.settings.sigma(episode), generator)


def _adam(network: Network, rate: float) -> Callable[[], object]:
    """A step of Adam on a network's weights, down the gradient that was written last."""
    network.weights.grad = network.gradient
    # the fused form makes no tensors on the way
    return torch.optim.Adam([network.weights], lr=rate, fused=True).step
