"""Who plays the episodes of a problem: a table looks up what a live network computes."""

from dqmq_env.envs.core import Core
from dqmq_env.envs.live import LiveBatch, LiveEpisode
from dqmq_env.envs.lookup import TreeBatch, TreeEpisode
from dqmq_env.envs.play import Episode, EpisodeBatch
from dqmq_env.envs.tree import tree_of
from dqmq_env.problem.table_problem import TableProblem


def episode_of(core: Core) -> Episode:
    """For one episode at a time."""
    if isinstance(core.problem, TableProblem):
        return TreeEpisode(tree_of(core.problem, core.task))
    return LiveEpisode(core)


def batch_of(core: Core, count: int) -> EpisodeBatch:
    """For many episodes in step."""
    if isinstance(core.problem, TableProblem):
        return TreeBatch(tree_of(core.problem, core.task), count)
    return LiveBatch(core, count)
