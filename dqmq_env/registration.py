"""The ids of the suite: one flat list, string entry points, plain values."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from gymnasium.envs.registration import register


class Entry(NamedTuple):
    """An id, the classes behind it, and the keyword arguments that they are made with.

    Attributes:
        id: as Gymnasium knows it.
        entry_point: class of one episode.
        vector_entry_point: class of many.
        kwargs: what the id sets.
        needs: argument that the user gives, to an example of it in code.
    """

    id: str
    entry_point: str
    vector_entry_point: str
    kwargs: Mapping[str, Any]
    needs: Mapping[str, str]


def _forms(
    name: str, classes: str, kwargs: Mapping[str, Any], needs: Mapping[str, str]
) -> tuple[Entry, ...]:
    """The three forms of actions of a network; ``classes`` is ``module:Stem``."""
    suffixes = {"": "discrete", "-Continuous": "continuous", "-OneShot": "one-shot"}
    return tuple(
        Entry(
            f"{name}{suffix}-v0",
            f"dqmq_env.envs.{classes}Env",
            f"dqmq_env.envs.{classes}VectorEnv",
            {**kwargs, "actions": actions},
            needs,
        )
        for suffix, actions in suffixes.items()
    )


_SHIPPED = {
    "DQMQ-ResNet": ("resnet:ResNet", "resnet20-fashion-mnist"),
    "DQMQ-ResNet8": ("resnet:ResNet", "resnet8-fashion-mnist"),
    "DQMQ-MobileNetV2": ("mobilenet:MobileNetV2", "mobilenetv2-fashion-mnist"),
}
_TABULAR = {"DQMQ-ResNet8-Tabular": ("tabular:TabularResNet", "resnet8-fashion-mnist")}
_TORCHVISION = {"DQMQ-ResNet18": "resnet18", "DQMQ-ResNet50": "resnet50"}

OWN_PROBLEM = Entry(
    "DQMQ-v0",
    "dqmq_env.envs.single:BitWidthEnv",
    "dqmq_env.envs.vector:BitWidthVectorEnv",
    {},
    {"problem": "problem"},
)
"""The id of an environment over a problem that the user brings."""

LIVE_ENTRIES = tuple(
    entry
    for name, (classes, checkpoint) in _SHIPPED.items()
    for entry in _forms(name, classes, {"checkpoint": checkpoint}, {})
)
"""Ids of environments over shipped networks."""

TABULAR_ENTRIES = tuple(
    entry
    for name, (classes, table) in _TABULAR.items()
    for entry in _forms(name, classes, {"table": table}, {})
)
"""Ids of environments over shipped tables."""

ENTRIES = (*LIVE_ENTRIES, *TABULAR_ENTRIES)
"""Ids that need no arguments."""

TORCHVISION_ENTRIES = tuple(
    entry
    for name, architecture in _TORCHVISION.items()
    for entry in _forms(
        name,
        "imagenet:TorchvisionResNet",
        {"architecture": architecture},
        {"data": '"imagenet"'},
    )
)
"""Ids of environments over a torchvision network and a folder that the user brings."""

OWN_NETWORK_ENTRIES = _forms(
    "DQMQ-Own",
    "own:OwnNetwork",
    {},
    {"network": '"mynet:make"', "data": '"photos"', "weights": '"mynet.pt"'},
)
"""Ids of environments over a network and a folder that the user brings, as plain values."""

ALL_ENTRIES = (*ENTRIES, *TORCHVISION_ENTRIES, *OWN_NETWORK_ENTRIES, OWN_PROBLEM)
"""Every id of the suite."""


def register_all() -> None:
    """Make every id known to Gymnasium."""
    for entry in ALL_ENTRIES:
        register(
            id=entry.id,
            entry_point=entry.entry_point,
            vector_entry_point=entry.vector_entry_point,
            kwargs=dict(entry.kwargs),
        )
