"""Bits for a network in seconds: sensitivities measured on few images, one programme a budget."""

from baselines.fast_search.search import FastSearch

__all__ = ["FastSearch"]
