"""Rules: the assignment of each condition, as a value, as an agent, and read off any agent."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import AssignmentError
from dqmq_env.problem.protocol import Problem
from dqmq_env.quality.condition import Condition
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.protocol import Agent
from dqmq_env.task.decisions import ACTIVATION, plan_of
from dqmq_env.task.observation import ObservationLayout
from dqmq_env.task.task import Task


class Rule(Mapping[Condition, BitAssignment]):
    """An immutable mapping from conditions to assignments.

    Args:
        assignments: conditions, or their texts, to assignments.

    Raises:
        ConditionError: a text is no condition.
    """

    __slots__ = ("_assignments",)

    def __init__(self, assignments: Mapping[Condition | str, BitAssignment]) -> None:
        self._assignments = {Condition.parse(key): own for key, own in assignments.items()}

    @classmethod
    def static(cls, problem: Problem, assignment: BitAssignment) -> Self:
        """The same assignment under every condition of the problem's mixture."""
        return cls(dict.fromkeys(problem.mixture.conditions, assignment))

    def __getitem__(self, condition: Condition | str) -> BitAssignment:
        return self._assignments[Condition.parse(condition)]

    def __iter__(self) -> Iterator[Condition]:
        return iter(self._assignments)

    def __len__(self) -> int:
        return len(self._assignments)

    def __repr__(self) -> str:
        inside = ", ".join(f"{condition}: {own!r}" for condition, own in self.items())
        return f"Rule({inside})"

    def to_dict(self) -> dict[str, dict[str, list[int]]]:
        """The form that JSON can hold: condition to layer to its two widths."""
        return {
            str(condition): {name: list(bits) for name, bits in own.items()}
            for condition, own in self.items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Mapping[str, Any]]) -> Self:
        """The rule whose :meth:`to_dict` gave ``data``.

        Raises:
            AssignmentError: ``data`` is of another form, or bits are not allowed.
            ConditionError: a text is no condition.
        """
        if not isinstance(data, Mapping) or not all(isinstance(v, Mapping) for v in data.values()):
            raise AssignmentError(f"rule: got {data!r}, allowed is condition to layer to bits")
        return cls({condition: BitAssignment(own) for condition, own in data.items()})


class RuleAgent:
    """Tells the condition by the quality of the images, and does what the rule says.

    The condition is the one whose mean quality descriptor, on the first batch, is nearest.

    Args:
        rule: what to do under each condition of the problem's mixture.
        problem: gives layers, candidates and images.
        task: says which decisions are taken.

    Raises:
        AssignmentError: the rule leaves a condition out, or its bits are no candidates.
    """

    actions = "discrete"
    masked = False

    def __init__(self, rule: Rule, problem: Problem, task: Task) -> None:
        conditions = problem.mixture.conditions
        missing = [str(condition) for condition in conditions if condition not in rule]
        if missing:
            raise AssignmentError(f"rule: there are no assignments for {missing}")
        plan = plan_of(problem, task.decisions)
        self.rule = rule
        self._layout = ObservationLayout(plan.candidates)
        self._centres = problem.start(conditions, [0] * len(conditions)).quality
        names = [spec.name for spec in problem.layers]
        try:
            self._indices = np.array(
                [
                    [
                        plan.candidates.index(rule[condition][names[layer]][part == ACTIVATION])
                        for layer, part in plan.decisions
                    ]
                    for condition in conditions
                ]
            )
        except (KeyError, ValueError) as error:
            raise AssignmentError(f"rule: it does not fit the problem: {error}") from error

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """See :class:`~dqmq_env.search.protocol.Agent`."""
        rows = np.atleast_2d(observation)
        quality = rows[:, self._layout.part("quality")]
        distance = ((quality[:, None] - self._centres[None]) ** 2).sum(2)
        decisions = self._indices.shape[1]
        progress = rows[:, self._layout.place("progress.index")] * decisions
        number = np.minimum(np.rint(progress).astype(np.int64), decisions - 1)
        actions = self._indices[distance.argmin(1), number]
        return (actions[0] if observation.ndim == 1 else actions), None


def rule_of(agent: Agent, problem: Problem, task: Task) -> Rule:
    """What an agent does under each condition of the problem's mixture.

    Where it does not do the same on all batches, what it does most often; of several, what it does
    first.

    Args:
        agent: takes the decisions, without drawing them.
        problem: gives conditions and batches; every batch under every condition is evaluated.
        task: budget and decisions.
    """
    env = BitWidthEnv(problem, task, agent.actions)
    found: dict[Condition | str, BitAssignment] = {}
    for condition in problem.mixture.conditions:
        played = [_played(agent, env, condition, batch) for batch in range(problem.batches)]
        found[condition] = Counter(played).most_common(1)[0][0]
    return Rule(found)


def _played(agent: Agent, env: BitWidthEnv, condition: Condition, batch: int) -> BitAssignment:
    """The assignment that an agent executes in one episode."""
    observation, _ = env.reset(options={"condition": str(condition), "batch": batch})
    state, done = None, False
    info: dict[str, Any] = {}
    start = np.ones(1, np.bool_)
    while not done:
        masks = {"action_masks": env.action_masks()} if agent.masked else {}
        action, state = agent.predict(observation, state, start, deterministic=True, **masks)
        observation, _, done, _, info = env.step(action)
        start = np.zeros(1, np.bool_)
    return BitAssignment(info["assignment"])
