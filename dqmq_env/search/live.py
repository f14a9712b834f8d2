"""Searches that need the network itself."""

from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.search.meter import MeteredProblem


def live_network(problem: MeteredProblem, searcher: str) -> NetworkProblem:
    """The problem that can be trained on.

    Args:
        problem: what the searcher was given.
        searcher: its name, for the message.

    Raises:
        SettingError: it is no live network.
    """
    if not isinstance(problem.inner, NetworkProblem):
        raise SettingError(
            f"problem: got a {type(problem.inner).__name__}, allowed is a NetworkProblem: "
            f"{searcher} needs a live network"
        )
    return problem.inner
