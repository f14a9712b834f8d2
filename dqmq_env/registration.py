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


"""Ids of environments over shipped networks, which need no arguments."""

OWN_PROBLEM = Entry(
    "DQMQ-v0", "dqmq_env.envs.single:BitWidthEnv", "dqmq_env.envs.vector:BitWidthVectorEnv", {}
)
"""The id of an environment over a problem that the user brings: ``problem=`` is its argument."""


def register_all() -> None:
    """Make every id known to Gymnasium."""
    for entry in (*ENTRIES, OWN_PROBLEM):
        register(
            id=entry.id,
            entry_point=entry.entry_point,
            vector_entry_point=entry.vector_entry_point,
            kwargs=entry.kwargs,
        )
