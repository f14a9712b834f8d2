"""Architectures and the shipped checkpoints, each with the script that made it."""
