"""Dataclasses made from plain values such as TOML and JSON can hold, each checked by its type."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dqmq_env.errors import DQMQError, ResultError

T = TypeVar("T")


def make(kind: type[T], values: Mapping[str, Any], what: str) -> T:
    """Make an object of a class whose fields are plain values, or such classes again.

    Lists become tuples where a field is one. A class that is no dataclass has no fields.

    Args:
        kind: what to make.
        values: field to value.
        what: names the values in messages, such as ``settings of baselines.fixed:Fixed``.

    Raises:
        ResultError: a field is unknown or missing, a value is of another type than its field, or
            the class refuses it.
    """
    known = _known(kind)
    for name in values:
        if name not in known:
            raise ResultError(f"{what}: got the unknown field {name!r}, allowed are {list(known)}")
    for name, own in known.items():
        if name not in values and own.default is MISSING and own.default_factory is MISSING:
            raise ResultError(f"{what}: the field {name!r} is missing")
    hints = get_type_hints(kind) if values else {}
    made = {}
    for name, value in values.items():
        try:
            made[name] = _fit(value, hints[name], f"{what}: {name}")
        except _UnfitError as error:
            raise ResultError(
                f"{what}: {name}: got {value!r}, allowed is {_spoken(hints[name])}"
            ) from error
    try:
        return kind(**made)
    except DQMQError:
        raise
    except (TypeError, ValueError) as error:
        raise ResultError(f"{what}: {error}") from error


class _UnfitError(Exception):
    """A value is of another type than its field."""


def _known(kind: type[Any]) -> dict[str, "Field[Any]"]:
    found = fields(kind) if is_dataclass(kind) else ()
    return {own.name: own for own in found if own.init}


def _fit(value: Any, hint: Any, what: str) -> Any:
    """The value, as a field of that type holds it.

    Raises:
        _UnfitError: it is of another type.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _fit_one(value, inner, what)
    if origin is Literal:
        fits = value in inner
    elif origin is tuple:
        return _fit_tuple(value, inner, what)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _UnfitError
        return {_fit(k, inner[0], what): _fit(v, inner[1], what) for k, v in value.items()}
    elif isinstance(origin, type) and issubclass(origin, Sequence):
        if not isinstance(value, list | tuple):
            raise _UnfitError
        return [_fit(item, inner[0], what) for item in value]
    elif isinstance(hint, type) and is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise _UnfitError
        return make(hint, value, what)
    elif hint is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    elif hint in (bool, int, str, types.NoneType):
        fits = type(value) is hint
    else:
        fits = True  # nothing is known of other types
    if not fits:
        raise _UnfitError
    return value


def _fit_one(value: Any, hints: tuple[Any, ...], what: str) -> Any:
    """The value as the first of several types takes it."""
    for hint in hints:
        try:
            return _fit(value, hint, what)
        except _UnfitError:
            continue
    raise _UnfitError


def _fit_tuple(value: Any, hints: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _UnfitError
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(hints) != len(value):
        raise _UnfitError
    return tuple(_fit(item, hint, what) for item, hint in zip(value, hints, strict=True))


def _spoken(hint: Any) -> str:
    """A type as messages name it."""
    name = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return name.replace("collections.abc.", "").replace("typing.", "")
