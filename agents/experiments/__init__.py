"""Experiments: methods side by side at equal cost and equal images trained, seed by seed."""
