"""Eight agents of Stable-Baselines3 and its contrib package as searchers."""

from baselines.sb3.agent import SB3Agent
from baselines.sb3.search import SB3Search

__all__ = ["SB3Agent", "SB3Search"]
