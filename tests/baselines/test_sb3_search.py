import gc
import random
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines.sb3 import SB3Agent, SB3Search
from dqmq_env.costs import Bops
from dqmq_env.errors import CheckpointError, SearchError, SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.search.meter import MeteredProblem, Trial
from dqmq_env.search.rule import rule_of
from dqmq_env.task.budget import Budget
from dqmq_env.task.task import Task
from dqmq_env.training.state import save_state

DISCRETE = ["ppo", "a2c", "dqn", "maskable-ppo", "recurrent-ppo"]
CONTINUOUS = ["ddpg", "td3", "sac"]
ALGORITHMS = DISCRETE + CONTINUOUS
BUDGET = 0.2
TASK = Task(budget=Budget(Bops(), BUDGET))
EVALUATIONS = 64


@cache
def table() -> TableProblem:
    return TableProblem(load_table("resnet8-fashion-mnist"))


def quick(algorithm: str) -> dict[str, int]:
    """Settings with which updates take no time."""
    if algorithm == "a2c":
        return {}
    return {"n_epochs": 1, "minibatches": 2} if "ppo" in algorithm else {"gradient_steps": 2}


def search(
    algorithm: str, seed: int, evaluations: int = EVALUATIONS, preset: str = "default"
) -> tuple[SB3Agent, Any]:
    problem = MeteredProblem(table(), evaluations)
    searcher = SB3Search(algorithm, preset, quick(algorithm))
    return searcher.search(problem, TASK, evaluations, seed), problem


@cache
def found(algorithm: str) -> tuple[SB3Agent, tuple[Trial, ...]]:
    """Of seed 1, for tests that only look."""
    agent, problem = search(algorithm, 1)
    return agent, tuple(problem.trials)


def weights(agent: SB3Agent) -> torch.Tensor:
    return torch.cat([own.detach().flatten() for own in agent.policy.parameters()])


def generators() -> list[Any]:
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    own = [part.tolist() if isinstance(part, np.ndarray) else part for part in legacy]
    return [python, own, torch.get_rng_state().tolist(), torch.get_num_threads()]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_search_spends_its_evaluations_and_keeps_to_the_budget(algorithm: str) -> None:
    agent, trials = found(algorithm)
    assert 0.9 * EVALUATIONS <= len(trials) <= EVALUATIONS
    assert agent.actions == ("discrete" if algorithm in DISCRETE else "continuous")
    assert agent.masked == (algorithm == "maskable-ppo")
    rule = rule_of(agent, table(), TASK)
    assert set(rule) == set(table().mixture.conditions)
    for assignment in [*rule.values(), *(trial.assignment for trial in trials)]:
        assert table().cost(assignment)["bops"] <= BUDGET + 1e-9


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_seed_alone_decides_and_the_process_does_not_notice(algorithm: str) -> None:
    agent, trials = found(algorithm)
    random.random()
    np.random.random()  # noqa: NPY002
    torch.rand(1)
    before = generators()
    again, problem = search(algorithm, 1)
    assert generators() == before
    assert tuple(problem.trials) == trials
    assert torch.equal(weights(again), weights(agent))
    assert rule_of(again, table(), TASK) == rule_of(agent, table(), TASK)
    assert tuple(search(algorithm, 2)[1].trials) != trials


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("evaluations", "preset"), [(1, "default"), (11, "live")])
def test_any_number_of_evaluations_will_do(algorithm: str, evaluations: int, preset: str) -> None:
    _, problem = search(algorithm, 0, evaluations, preset)
    assert 0 < problem.spent.evaluations <= evaluations


@pytest.mark.parametrize("algorithm", ["maskable-ppo", "td3"])
def test_a_live_network_will_do(tiny_problem: NetworkProblem, algorithm: str) -> None:
    problem = MeteredProblem(tiny_problem, 20)
    task = Task(budget=Budget(Bops(), 0.4))
    agent = SB3Search(algorithm, settings=quick(algorithm)).search(problem, task, 20, seed=0)
    assert problem.spent.evaluations >= 16
    for assignment in rule_of(agent, tiny_problem, task).values():
        assert tiny_problem.cost(assignment)["bops"] <= 0.4 + 1e-9


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_agent_keeps_nothing_of_the_problem(algorithm: str) -> None:
    agent, problem = search(algorithm, 0, 8)
    gone = weakref.ref(problem)
    del problem
    gc.collect()
    assert gone() is None
    assert agent.actions


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_agent_comes_back_from_its_file(algorithm: str, tmp_path: Path) -> None:
    agent, _ = found(algorithm)
    agent.save(tmp_path / "agent")
    before = generators()
    loaded = SB3Agent.load(tmp_path / "agent")
    assert generators() == before
    assert (loaded.actions, loaded.masked) == (agent.actions, agent.masked)
    assert torch.equal(weights(loaded), weights(agent))
    assert rule_of(loaded, table(), TASK) == rule_of(agent, table(), TASK)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no state file"):
        SB3Agent.load(tmp_path / "missing")
    save_state(tmp_path / "foreign", {"schema": "other/1"})
    with pytest.raises(CheckpointError, match="not a dqmq-sb3-agent/1 file"):
        SB3Agent.load(tmp_path / "foreign")
    found("ppo")[0].save(tmp_path / "agent")
    damaged = bytearray((tmp_path / "agent").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "agent").write_bytes(damaged)
    with pytest.raises(CheckpointError, match="damaged"):
        SB3Agent.load(tmp_path / "agent")


def test_many_episodes_are_decided_at_once() -> None:
    generator = np.random.default_rng(0)
    observations = generator.random((5, 29), np.float32)
    masks = np.tile([True, False, True, False, False], (5, 1))
    agent, _ = found("maskable-ppo")
    actions, state = agent.predict(observations, deterministic=False, action_masks=masks)
    assert actions.shape == (5,)
    assert set(actions.tolist()) <= {0, 2}
    assert state is None
    recurrent, _ = found("recurrent-ppo")
    first, state = recurrent.predict(observations, None, np.ones(5, np.bool_))
    second, later = recurrent.predict(observations, state, np.zeros(5, np.bool_))
    assert first.shape == second.shape == (5,)
    assert not np.array_equal(state[0], later[0])
    again, _ = recurrent.predict(observations, later, np.ones(5, np.bool_))
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize(
    ("algorithm", "preset", "settings", "message"),
    [
        ("trpo", "default", {}, "algorithm: got 'trpo', allowed are .*'ppo'.*'recurrent-ppo'"),
        ("ppo", "cloudy", {}, "preset: got 'cloudy', allowed are .*'default'"),
        ("ppo", "default", {"tau": 0.1}, "settings: got 'tau', ppo has .*'clip_range'"),
        ("dqn", "default", {"envs": 0}, "envs: got 0, allowed are"),
        ("dqn", "default", {"envs": 2.5}, "envs: got 2.5, allowed are"),
        ("sac", "default", {"tau": -0.1}, "tau: got -0.1, allowed are"),
        ("a2c", "default", {"ent_coef": True}, "ent_coef: got True, allowed are"),
        ("a2c", "default", {"use_rms_prop": 1}, "use_rms_prop: got 1, allowed are"),
        ("td3", "default", {"net_arch": [64, 0]}, "net_arch: got .*, allowed are"),
        ("td3", "default", {"net_arch": 64}, "net_arch: got 64, allowed are"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(
    algorithm: str, preset: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        SB3Search(algorithm, preset, settings)


def test_a_search_without_evaluations_is_refused() -> None:
    with pytest.raises(SearchError, match="evaluations: got 0"):
        SB3Search().search(MeteredProblem(table(), 0), TASK, 0, 0)


def test_settings_take_the_place_of_the_file() -> None:
    problem = MeteredProblem(table(), 12)
    agent = SB3Search("ppo", settings={"envs": 3, "net_arch": [5]}).search(problem, TASK, 12, 0)
    assert tuple(agent.policy.action_net.weight.shape) == (5, 5)


def test_much_is_learned_about_one_condition() -> None:
    condition = "gaussian_noise/3"
    problem = TableProblem(table().table, [condition])
    agent = SB3Search("ppo").search(MeteredProblem(problem, 1500), TASK, 1500, seed=0)
    rule = rule_of(agent, problem, TASK)
    assert problem.regret(rule[condition], condition, TASK) < 0.5
