import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqmq_env.envs.vector import BitWidthVectorEnv
from dqmq_env.errors import AssignmentError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.search.rule import Rule, RuleAgent, rule_of
from dqmq_env.search.space import Space
from dqmq_env.task.decisions import SeparateDecisions
from dqmq_env.task.task import Task

TABLE = TableProblem(load_table("resnet8-fashion-mnist"))
CONDITIONS = TABLE.mixture.conditions
INDICES = st.lists(st.integers(0, TABLE.count - 1), min_size=9, max_size=9)


def rule_at(indices: list[int]) -> Rule:
    return Rule({c: TABLE.assignment(i) for c, i in zip(CONDITIONS, indices, strict=True)})


@given(INDICES)
def test_an_agent_does_what_its_rule_says(indices: list[int]) -> None:
    rule = rule_at(indices)
    assert dict(rule_of(RuleAgent(rule, TABLE, Task()), TABLE, Task())) == dict(rule)


@given(INDICES)
def test_json_keeps_a_rule(indices: list[int]) -> None:
    rule = rule_at(indices)
    assert dict(Rule.from_dict(json.loads(json.dumps(rule.to_dict())))) == dict(rule)


def test_many_observations_get_an_action_each() -> None:
    rule = rule_at(list(range(0, 9000, 1000)))
    agent = RuleAgent(rule, TABLE, Task())
    env = BitWidthVectorEnv(40, TABLE, Task())
    observations, info = env.reset(seed=0)
    state = None
    for _ in range(6):
        actions, state = agent.predict(observations, state)
        observations, *_, end = env.step(actions)
    space = Space(TABLE, Task())
    for number, condition in enumerate(info["condition"]):
        expected = rule[condition]
        for name in space.names:
            assert tuple(end["final_info"]["assignment"][name][number]) == expected[name]


def test_weights_and_activations_in_turn(tiny_problem: NetworkProblem) -> None:
    task = Task(decisions=SeparateDecisions())
    space = Space(tiny_problem, task)
    rule = Rule.static(tiny_problem, space.assignment(space.random(np.random.default_rng(3))))
    assert dict(rule_of(RuleAgent(rule, tiny_problem, task), tiny_problem, task)) == dict(rule)


def test_a_rule_that_does_not_fit_is_refused(tiny_problem: NetworkProblem) -> None:
    with pytest.raises(AssignmentError, match="no assignments for"):
        RuleAgent(Rule({"clean": TABLE.assignment(0)}), TABLE, Task())
    with pytest.raises(AssignmentError, match="does not fit the problem"):
        RuleAgent(Rule.static(tiny_problem, TABLE.assignment(1)), tiny_problem, Task())
    with pytest.raises(AssignmentError, match="condition to layer to bits"):
        Rule.from_dict({"clean": [1, 2]})  # type: ignore[dict-item]
