import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from baselines.haq import HAQ
from baselines.haq.quirks import HARMLESS, QUIRKS
from dqmq_env.costs import Bops
from dqmq_env.errors import SearchError, SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.search.meter import MeteredProblem, Trial
from dqmq_env.search.rule import Rule, rule_of
from dqmq_env.search.space import Space
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import SeparateDecisions
from dqmq_env.task.reward import AccuracyReward
from dqmq_env.task.task import Task
from dqmq_env.training.loop import Schedule

TABLE = TableProblem(load_table("resnet8-fashion-mnist"))
CLEAN = TableProblem(TABLE.table, ["clean"])
TASK = Task(AccuracyReward(), Budget(Bops(), 0.2))
QUICK: dict[str, Any] = {"hidden": 16, "warm_up": 2}


def found(
    haq: HAQ, evaluations: int, problem: Any = CLEAN, task: Task = TASK, seed: int = 0
) -> tuple[Rule, list[Trial], MeteredProblem]:
    """The rule, the trials of the episodes, and the meter."""
    metered = MeteredProblem(problem, evaluations)
    agent = haq.search(metered, task, evaluations, seed)
    looks = len(problem.mixture.conditions) if haq.reward == "haq" else 0
    return rule_of(agent, problem, task), metered.trials[looks:], metered


def test_episodes_get_better() -> None:
    _, trials, _ = found(HAQ(hidden=32), 160)
    accuracies = [trial.accuracy for trial in trials]
    assert np.mean(accuracies[-32:]) > np.mean(accuracies[:32]) + 0.004


def test_an_agent_for_all_conditions_gets_better() -> None:
    rule, trials, metered = found(HAQ(hidden=32, scope="all"), 9 * 120, TABLE)
    assert metered.spent.evaluations == 9 * 120
    episodes = np.array([trial.accuracy for trial in trials]).reshape(-1, 9).mean(1)
    assert np.mean(episodes[-24:]) > np.mean(episodes[:24]) + 0.004
    assert len(set(rule.values())) == 1
    assert TABLE.cost(rule["clean"])["bops"] <= 0.2


def test_an_agent_for_each_condition_keeps_to_budget_and_evaluations() -> None:
    rule, trials, metered = found(HAQ(**QUICK), 9 * 12 + 5, TABLE)
    assert metered.spent.evaluations == 9 * 12
    assert len(rule) == 9
    assert len(set(rule.values())) > 1
    assert all(TABLE.cost(own)["bops"] <= 0.2 + 1e-9 for own in rule.values())
    assert all(TABLE.cost(trial.assignment)["bops"] <= 0.2 + 1e-9 for trial in trials)
    best = {
        condition: max(t.accuracy for t in trials if t.condition == condition) for condition in rule
    }
    assert {
        condition: TABLE.evaluate(own, condition).accuracy[0] for condition, own in rule.items()
    } == best


def test_the_same_seed_tries_the_same() -> None:
    first, second, other = (found(HAQ(**QUICK), 30, seed=seed)[1] for seed in (3, 3, 4))
    assert first == second
    assert first != other


def test_the_widest_bits_are_looked_at_once_for_haqs_reward() -> None:
    _, _, metered = found(HAQ(**QUICK), 15)
    space = Space(CLEAN, TASK)
    widest = space.assignment(space.widest())
    assert [trial.assignment == widest for trial in metered.trials] == [True] + [False] * 14
    _, _, metered = found(HAQ(reward="task", **QUICK), 15)
    assert all(trial.assignment != widest for trial in metered.trials)


def test_the_tasks_reward_leads_to_narrower_bits_than_haqs() -> None:
    means = []
    for reward in ("haq", "task"):
        trials = found(HAQ(hidden=32, reward=reward), 120, task=Task())[1]
        means.append(np.mean([CLEAN.cost(trial.assignment)["bops"] for trial in trials[-24:]]))
    assert means[1] < 0.8 * means[0]


@pytest.mark.parametrize("quirk", HARMLESS)
def test_what_is_done_as_in_haqs_code_changes_what_is_tried(quirk: str) -> None:
    others = [name for name in HARMLESS if name != quirk]
    with_it, without = (
        found(HAQ(quirks=own, actor_rate=0.01, **QUICK), 40)[1] for own in (HARMLESS, others)
    )
    assert with_it[:3] == without[:3]
    assert with_it != without


@pytest.mark.parametrize("quirk", ["stale-first-observation", "flag-overwritten"])
def test_quirks_of_two_decisions_a_layer(
    quirk: str, make_tiny_problem: Callable[..., NetworkProblem]
) -> None:
    problem = make_tiny_problem(conditions=["clean"], batch_size=20)
    task = Task(budget=Budget(Bops(), 0.3), decisions=SeparateDecisions())
    with_it, without = (
        found(HAQ(reward="task", quirks=own, actor_rate=0.01, **QUICK), 40, problem, task)[1]
        for own in ((*HARMLESS, quirk), HARMLESS)
    )
    assert with_it[:6] == without[:6]  # three random episodes of two batches
    assert with_it != without
    assert all(problem.cost(trial.assignment)["bops"] <= 0.3 + 1e-9 for trial in with_it)
    assert any(bits.weight != bits.activation for bits in with_it[0].assignment.values())


def test_networks_are_fine_tuned_in_each_episode(tiny_problem: NetworkProblem) -> None:
    task = Task(AccuracyReward(), Budget(Bops(), 0.3))
    plain = HAQ(scope="all", warm_up=0, hidden=16)
    tuned = HAQ(
        scope="all",
        warm_up=0,
        hidden=16,
        fine_tune={"images": 64, "batch": 32, "learning_rate": 3e-3},
    )
    evaluations = 6 * 3
    rule, _, metered = found(tuned, evaluations, tiny_problem, task)
    again = found(tuned, evaluations, tiny_problem, task)[2]
    assert metered.spent.evaluations == evaluations
    assert metered.spent.images_evaluated == evaluations * 20
    assert metered.spent.images_trained == 2 * 64
    assert metered.trials == again.trials
    before = found(plain, evaluations, tiny_problem, task)[2].trials
    # the first episode is random: the same bits, trained and not
    assert metered.trials[3].assignment == before[3].assignment
    own = [np.mean([t.loss for t in trials[3:9]]) for trials in (metered.trials, before[:6])]
    assert own[0] != own[1]
    assert all(tiny_problem.cost(bits)["bops"] <= 0.3 + 1e-9 for bits in rule.values())


def test_settings_are_json_and_have_haqs_values() -> None:
    settings = json.loads(json.dumps(asdict(HAQ(fine_tune={"images": 100}))))
    again = HAQ(**settings)
    assert again.fine_tune == {"images": 100}
    assert (again.hidden, again.actor_rate, again.critic_rate) == (300, 1e-4, 1e-3)
    assert (again.tau, again.discount, again.batch, again.memory) == (0.01, 1.0, 64, 128)
    assert (again.baseline_alpha, again.warm_up, again.noise_decay) == (0.5, 20, 0.99)
    assert set(again.quirks) < set(QUIRKS)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(SettingError, match=r"quirks: got \['loud'\]"):
        HAQ(quirks=["loud"])
    with pytest.raises(SettingError, match="reward: got 'accuracy'"):
        HAQ(reward="accuracy")
    with pytest.raises(SettingError, match=r"fine_tune: got \['epochs'\]"):
        HAQ(fine_tune={"epochs": 1})
    with pytest.raises(SettingError, match="scope"):
        found(HAQ(scope="image"), 20)
    with pytest.raises(SettingError, match="allowed is a NetworkProblem"):
        found(HAQ(fine_tune=asdict(Schedule())), 20)
    with pytest.raises(SearchError, match="evaluations: got 17, allowed are 18 and more"):
        found(HAQ(), 17, TABLE)
