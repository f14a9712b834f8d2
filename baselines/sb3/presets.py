"""Hyper-parameters: a file for each algorithm, sections in it, and what overrides them."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dqmq_env.errors import SettingError

FOLDER = Path(__file__).parent / "settings"


def preset_of(algorithm: str, preset: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an algorithm: those of ``default``, of another section, and the overrides.

    Whole numbers are 1 and more, others 0 and more.

    Args:
        algorithm: name of the file.
        preset: name of a section, which need not say what it leaves as it is in ``default``.
        overrides: settings in their place.

    Raises:
        SettingError: there is no such section or setting, or a value is not allowed.
    """
    sections = tomllib.loads((FOLDER / f"{algorithm}.toml").read_text())
    if preset not in sections:
        raise SettingError(f"preset: got {preset!r}, allowed are {list(sections)}")
    default: dict[str, Any] = sections["default"]
    for name, value in overrides.items():
        if name not in default:
            raise SettingError(f"settings: got {name!r}, {algorithm} has {list(default)}")
        if not _like(value, default[name]):
            raise SettingError(f"{name}: got {value!r}, allowed are such as {default[name]!r}")
    return {**default, **sections[preset], **overrides}


def _like(value: object, default: object) -> bool:
    """Whether a value is of the default's kind and not below what is allowed."""
    if isinstance(default, list):
        return isinstance(value, list) and all(_like(own, 1) for own in value)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, int):
        return isinstance(value, int) and value >= 1
    return isinstance(value, int | float) and value >= 0
