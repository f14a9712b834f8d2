"""Every searcher takes problems whose weights leave no choice, so that activations alone do."""

from collections.abc import Callable

import pytest

from baselines.dqnet.dqnet import DQNet
from baselines.evolutionary import EvolutionarySearch
from baselines.greedy import GreedySearch
from baselines.haq.search import HAQ
from baselines.hessian import HessianILP
from baselines.metamix import MetaMix
from baselines.random_search import RandomSearch
from baselines.sb3.search import SB3Search
from baselines.sdq import SDQ
from baselines.sensitivity import SensitivityILP
from baselines.uniform import Uniform
from dqmq_env.costs import Bops
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.protocol import Searcher
from dqmq_env.search.rule import rule_of
from dqmq_env.task.budget import Budget
from dqmq_env.task.reward import AccuracyReward
from dqmq_env.task.task import Task

BUDGET = 0.12
SEARCHERS: dict[str, Searcher] = {
    "uniform": Uniform(),
    "random": RandomSearch(scope="all"),
    "greedy": GreedySearch(scope="all"),
    "evolutionary": EvolutionarySearch(scope="all"),
    "sensitivity ILP": SensitivityILP(scope="all"),
    "HAQ": HAQ(scope="all"),
    "PPO": SB3Search("ppo", settings={"envs": 2}),
    "SDQ": SDQ(images=256, batch=32),
    "MetaMix": MetaMix(images=128, batch=32),
    "DQNet": DQNet(images=128, batch=32, pool=1, hidden=2, choices=None),
}


@pytest.mark.parametrize("name", SEARCHERS)
def test_it_decides_about_activations_and_keeps_to_the_budget(
    name: str, make_tiny_problem: Callable[..., NetworkProblem]
) -> None:
    problem = make_tiny_problem(bits=(1, 2, 4), weight_bits=2)
    task = Task(reward=AccuracyReward(), budget=Budget(Bops(), BUDGET))
    metered = MeteredProblem(problem, 400)
    agent = SEARCHERS[name].search(metered, task, 400, seed=0)
    for assignment in rule_of(agent, problem, task).values():
        decided = list(assignment.values())[1:-1]
        assert {own.weight for own in decided} == {2}
        assert {own.activation for own in decided} <= {1, 2, 4}
        assert problem.cost(assignment)["bops"] <= BUDGET + 1e-9


def test_traces_of_weights_say_nothing_of_activations(
    make_tiny_problem: Callable[..., NetworkProblem],
) -> None:
    problem = MeteredProblem(make_tiny_problem(bits=(1, 2, 4), weight_bits=2))
    with pytest.raises(SettingError, match="weight_bits: got one width"):
        HessianILP().search(problem, Task(), 100, seed=0)
