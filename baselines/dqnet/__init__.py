"""Bits for each image by one look after the first stage, in the style of DQNet."""

from baselines.dqnet.dqnet import DQNet, DQNetAgent, PerImageNetwork

__all__ = ["DQNet", "DQNetAgent", "PerImageNetwork"]
