"""Searching for bits: what an agent is, what a search may spend, how an agent becomes a rule."""
