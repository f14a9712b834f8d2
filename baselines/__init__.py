"""Baselines of ``dqmq_env``."""
