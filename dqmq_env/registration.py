"""The ids of the suite: one flat list, string entry points, plain values."""

from typing import Any, NamedTuple

from gymnasium.envs.registration import register


class Entry(NamedTuple):
    """An id, the class behind it, and the keyword arguments that it is made with."""

    id: str
    entry_point: str
    kwargs: dict[str, Any]


ENTRIES = (
    Entry(
        "DQMQ-ResNet-v0",
        "dqmq_env.envs.resnet:ResNetEnv",
        {"checkpoint": "resnet20-fashion-mnist"},
    ),
)


def register_all() -> None:
    """Make every id known to Gymnasium."""
    for entry in ENTRIES:
        register(id=entry.id, entry_point=entry.entry_point, kwargs=entry.kwargs)
