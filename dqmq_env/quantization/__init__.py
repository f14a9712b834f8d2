"""Fake quantisers, step-size rules, quantised layers and networks, assignments."""
