"""Agents of ``dqmq_env``."""
