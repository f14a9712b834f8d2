"""Networks by name, as cards and command lines say them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from dqmq_env.errors import SettingError
from dqmq_env.zoo.mobilenet import SmallMobileNetV2
from dqmq_env.zoo.resnet import CifarResNet

_BUILDERS: Mapping[str, Callable[..., nn.Module]] = {
    "resnet8": partial(CifarResNet, 8),
    "resnet20": partial(CifarResNet, 20),
    "mobilenetv2": SmallMobileNetV2,
}


def architecture_names() -> list[str]:
    """The names that :func:`build` knows."""
    return list(_BUILDERS)


def build(name: str, **arguments: Any) -> nn.Module:
    """A network with fresh weights.

    Args:
        name: ``resnet8``, ``resnet20`` or ``mobilenetv2``.
        arguments: ``in_channels``, ``classes``, and ``width`` of a ResNet.

    Raises:
        SettingError: there is no such network.
    """
    if name not in _BUILDERS:
        raise SettingError(f"architecture: got {name!r}, allowed are {architecture_names()}")
    return _BUILDERS[name](**arguments)
