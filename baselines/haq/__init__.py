"""HAQ's agent: bits layer by layer from a DDPG agent, after Wang et al. 2019 and their code."""

from baselines.haq.search import HAQ

__all__ = ["HAQ"]
