"""HAQ as a searcher: an agent that decides bits layer by layer, for each condition or for all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.haq.actions import ActionMap
from baselines.haq.ddpg import DDPG, DDPGSettings
from baselines.haq.fine_tune import FineTuned
from baselines.haq.quirks import (
    DUMMY_TRANSITION,
    HARMLESS,
    REWARD_ON_EVERY_TRANSITION,
    UNPROJECTED_ACTIONS,
    check_quirks,
)
from baselines.haq.state import States
from dqmq_env.errors import SearchError, SettingError
from dqmq_env.randomness import derive_seed
from dqmq_env.search.live import live_network
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.proposals import Proposals, run_proposals
from dqmq_env.search.rule import RuleAgent
from dqmq_env.search.target import Answer, Target, targets_of
from dqmq_env.task.task import Task
from dqmq_env.threads import one_thread
from dqmq_env.training.loop import Schedule

_SCALE = 10.0
"""HAQ's reward is a tenth of percent points; the task's is brought to the same size."""

_REWARDS = ("haq", "task")


@dataclass(frozen=True)
class HAQ(DDPGSettings):
    """Hardware-aware automated quantisation, after Wang et al. 2019 and mit-han-lab/haq.

    The assignment found is, of all that were tried, that of the highest reward of the task. What
    is HAQ's and what is ours is in docs/haq.md.

    Attributes:
        scope: ``condition`` for an agent for each condition, ``all`` for a single one that does
            not know the condition, as in HAQ itself.
        reward: what the agent learns from: ``haq`` for ten times the accuracy gained over that of
            the widest bits, ``task`` for ten times the task's reward. With ``haq`` nothing but the
            budget speaks against wide bits.
        quirks: names of what HAQ's code does beside its paper, as far as it is done here too; see
            :mod:`baselines.haq.quirks`.
        fine_tune: fields of a :class:`~dqmq_env.training.loop.Schedule` for training the network
            in each episode before it is evaluated; nothing is trained when left out.

    Raises:
        SettingError: a setting is not among those allowed.
    """

    scope: str = "condition"
    reward: str = "haq"
    quirks: Sequence[str] = HARMLESS
    fine_tune: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_quirks(self.quirks)
        if self.reward not in _REWARDS:
            raise SettingError(f"reward: got {self.reward!r}, allowed are {list(_REWARDS)}")
        known = [field.name for field in fields(Schedule)]
        unknown = [name for name in self.fine_tune or () if name not in known]
        if unknown:
            raise SettingError(f"fine_tune: got {unknown}, allowed are {known}")

    def search(self, problem: MeteredProblem, task: Task, evaluations: int, seed: int) -> RuleAgent:
        """See :class:`~dqmq_env.search.protocol.Searcher`.

        Raises:
            SearchError: there are too few evaluations for an episode.
        """
        targets = targets_of(self.scope, problem, task)
        price = sum(target.price for target in targets)
        looks = int(self.reward == "haq")
        episodes = evaluations // price - looks
        if episodes < 1:
            raise SearchError(
                f"evaluations: got {evaluations}, allowed are {price * (1 + looks)} and more"
            )
        searches = [
            (self._judge(target, seed), self._episodes(target, episodes, (seed, "haq", number)))
            for number, target in enumerate(targets)
        ]
        return RuleAgent(run_proposals(searches), problem, task)

    def _judge(self, target: Target, seed: int) -> Target:
        """What answers proposals: the target, or one that trains first."""
        if self.fine_tune is None:
            return target
        live_network(target.problem, "fine_tune")
        schedule = Schedule(**{"seed": derive_seed(seed, "haq fine-tune"), **self.fine_tune})
        return FineTuned(target.problem, target.task, target.mixture, schedule)

    def _episodes(self, target: Target, episodes: int, seed: tuple[int | str, ...]) -> Proposals:
        """Proposes what its agent decides, and lets it learn from the answers."""
        actions = ActionMap(target.problem, target.task)
        states = States(target.problem, actions.plan, self.quirks)
        agent = DDPG(self, states.features, len(actions.space.names), seed)
        reward = self._reward(target, actions)
        before: list[int] | None = None
        for episode in range(episodes):
            with one_thread():
                taken, chosen = _play(agent, actions, states, episode, before)
            executed = actions.lowered(chosen)
            answer = yield actions.assignment(executed)
            if UNPROJECTED_ACTIONS not in self.quirks:
                taken = _projected(taken, chosen, executed, actions)
                chosen = executed
            seen = states.episode(actions.bits(chosen), before)
            before = actions.bits(chosen)
            with one_thread():
                agent.learn(seen, taken, self._spread(reward(answer), len(chosen)), episode)
                if DUMMY_TRANSITION in self.quirks:
                    agent.fill(seen[-1], episode)
        return None

    def _reward(self, target: Target, actions: ActionMap) -> Callable[[Answer], float]:
        """What an answer is worth to the agent; HAQ's own takes a look at the widest bits."""
        if self.reward == "task":
            return lambda answer: _SCALE * answer.reward
        widest = actions.space.assignment(actions.space.widest())
        original = target.look(widest).accuracy
        return lambda answer: _SCALE * (answer.accuracy - original)

    def _spread(self, reward: float, steps: int) -> NDArray[np.float64]:
        """The rewards of the transitions of an episode."""
        rewards = np.zeros(steps)
        rewards[0 if REWARD_ON_EVERY_TRANSITION in self.quirks else steps - 1 :] = reward
        return rewards


def _play(
    agent: DDPG,
    actions: ActionMap,
    states: States,
    episode: int,
    before: Sequence[int] | None,
) -> tuple[NDArray[np.float64], list[int]]:
    """The actions of an episode, and the candidates that they stand for."""
    taken: list[float] = []
    chosen: list[int] = []
    for _ in actions.plan.decisions:
        state = states.after(actions.bits(chosen)) if chosen else states.first(before)
        taken.append(agent.act(state, episode))
        chosen.append(actions.index(taken[-1]))
    return np.array(taken), chosen


def _projected(
    taken: NDArray[np.float64], chosen: Sequence[int], executed: Sequence[int], actions: ActionMap
) -> NDArray[np.float64]:
    """Actions that stand for what was executed; those that do already are left alone."""
    middles = np.array([actions.action(index) for index in executed])
    return np.where(np.equal(chosen, executed), taken, middles)
