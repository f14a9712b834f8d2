"""Who plays the episodes of a problem."""

from dqmq_env.envs.core import Core
from dqmq_env.envs.live import LiveBatch, LiveEpisode
from dqmq_env.envs.play import Episode, EpisodeBatch


def episode_of(core: Core) -> Episode:
    """For one episode at a time."""
    return LiveEpisode(core)


def batch_of(core: Core, count: int) -> EpisodeBatch:
    """For many episodes in step."""
    return LiveBatch(core, count)
