"""The ids of the suite: one flat list, string entry points, plain values."""

from typing import Any, NamedTuple

from gymnasium.envs.registration import register


class Entry(NamedTuple):
    """An id, the classes behind it, and the keyword arguments that they are made with."""

    id: str
    entry_point: str
    vector_entry_point: str
    kwargs: dict[str, Any]


_FORMS = {"": "discrete", "-Continuous": "continuous", "-OneShot": "one-shot"}
_NETWORKS = {
    "DQMQ-ResNet": ("dqmq_env.envs.resnet", "ResNet", "resnet20-fashion-mnist"),
    "DQMQ-ResNet8": ("dqmq_env.envs.resnet", "ResNet", "resnet8-fashion-mnist"),
}

ENTRIES = tuple(
    Entry(
        f"{name}{suffix}-v0",
        f"{module}:{stem}Env",
        f"{module}:{stem}VectorEnv",
        {"checkpoint": checkpoint, "actions": actions},
    )
    for name, (module, stem, checkpoint) in _NETWORKS.items()
    for suffix, actions in _FORMS.items()
)


def register_all() -> None:
    """Make every id known to Gymnasium."""
    for entry in ENTRIES:
        register(
            id=entry.id,
            entry_point=entry.entry_point,
            vector_entry_point=entry.vector_entry_point,
            kwargs=entry.kwargs,
        )
