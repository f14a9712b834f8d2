"""The sensitivity of every option of every layer, measured once and kept in a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from baselines.exchange import Rows
from baselines.fast_search.sample import Sample
from baselines.sensitivity import alone, parts_of
from dqmq_env.errors import CheckpointError
from dqmq_env.progress import progress
from dqmq_env.search.space import Space
from dqmq_env.training.state import load_state, save_state

SCHEMA = "dqmq-sensitivities/1"


@dataclass(frozen=True)
class Store:
    """A file of sensitivities, and what they were measured on.

    Attributes:
        path: of the file.
        identity: all that the numbers depend on, as JSON can hold it.
    """

    path: Path
    identity: Mapping[str, Any]

    def load(self) -> list[list[float]]:
        """What was kept of each part that was measured.

        Raises:
            CheckpointError: the file is damaged, or of another network, other images or settings.
        """
        if not self.path.is_file():
            return []
        state = load_state(self.path)
        if state.get("schema") != SCHEMA or state.get("identity") != dict(self.identity):
            raise CheckpointError(
                f"sensitivities: {self.path} was measured on another network, other images or "
                "settings; choose another folder, or remove the file"
            )
        rows: list[list[float]] = state["parts"]
        return rows

    def save(self, parts: list[list[float]]) -> None:
        """Keep what was measured, whole or not at all."""
        state = {"schema": SCHEMA, "identity": dict(self.identity), "parts": parts}
        save_state(self.path, state)


def measured(
    sample: Sample, space: Space, store: Store | None = None, progress_bar: bool = False
) -> Rows:
    """By how much each option of each decided layer alone raises the divergence from float.

    All other layers are at their widest. Where weights and activations are decided separately, the
    two are measured one by one and pairs get the sum.

    Args:
        sample: what is looked at, part by part.
        space: gives the options.
        store: keeps each part that was measured, so that a run that was killed goes on; nothing is
            kept when left out.
        progress_bar: show parts, rate and time left.

    Returns:
        For each decided layer in forward order, a number in nats for each of its options; 0 for the
        widest.

    Raises:
        CheckpointError: the store holds something else.
    """
    widest = space.assignment(np.array(space.sizes) - 1)
    places = {name: place for place, name in enumerate(widest)}
    looked_at = [alone(options) for options in space.options]
    options = {
        places[name]: [own[place] for place in taken]
        for name, own, taken in zip(space.names, space.options, looked_at, strict=True)
    }
    done = store.load() if store else []
    steps, title = len(options), "sensitivities"
    total = len(sample.parts) * steps
    with progress(total, title, "layer", len(done) * steps, progress_bar) as bar:
        for number in range(len(done), len(sample.parts)):
            base = sample.of_part(number, widest)
            rises: list[float] = []
            for row in sample.changes(number, widest, options):
                rises += [own - base for own in row]
                bar.update()
            done.append(rises)
            if store:
                store.save(done)
    flat = iter((np.array(done).sum(0) / len(sample)).tolist())
    found: Rows = []
    for own, taken in zip(space.options, looked_at, strict=True):
        of = {place: next(flat) for place in taken}
        sums = [sum(of[part] for part in parts_of(own, place)) for place in range(len(own))]
        found.append(np.array(sums, np.float64))
    return found
