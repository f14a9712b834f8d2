"""Latency tables as files: CSV with a header that says how it was measured, and HAQ's arrays.

A CSV file begins with lines ``# name: text``; ``# unit: ms`` must be among them. Then come a row of
column names and a row for each layer and pair of bits::

    # unit: ms
    # machine: a phone, 1 thread, batch 1
    layer,weight_bits,activation_bits,milliseconds
    conv1,8,8,0.031
    conv1,4,4,0.044

Four further columns may follow: ``low``, ``high``, ``form`` and ``macs``, see
:class:`~dqmq_env.costs.timing.Timing`. HAQ's form is a ``.npy`` array of shape (layers, 8, 8),
indexed by layer, weight bits - 1 and activation bits - 1; beside ``x.npy`` stands ``x.json`` with
``{"unit": "ms", "layers": ["conv1", ...]}`` and whatever else there is to say, since the array
tells neither.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dqmq_env.costs.timing import Timing
from dqmq_env.errors import TableError

SCHEMA = "dqmq-latency/1"
UNIT = "ms"
"""Milliseconds for one image: the only unit there is."""

_MUST = {"layer": str, "weight_bits": int, "activation_bits": int, "milliseconds": float}
_MAY = {"low": float, "high": float, "form": str, "macs": int}
_COLUMNS: dict[str, type] = {**_MUST, **_MAY}
_FIELDS = {"weight_bits": "weight", "activation_bits": "activation"}


def csv_text(timings: Sequence[Timing], about: Mapping[str, str]) -> str:
    """The text of a CSV file."""
    fixed = {"schema": SCHEMA, "unit": UNIT}
    stream = io.StringIO()
    for name, text in {**fixed, **about, **fixed}.items():
        stream.write(f"# {name}: {text}\n")
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for timing in timings:
        rows.writerow(getattr(timing, _FIELDS.get(column, column)) for column in _COLUMNS)
    return stream.getvalue()


def csv_file(path: Path) -> tuple[tuple[Timing, ...], dict[str, str]]:
    """The timings of a CSV file, and what it says about them.

    Raises:
        TableError: the file is missing or damaged, of another kind, or in another unit.
    """
    lines = _text(path).splitlines()
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    about = dict(_header(line, path) for line in lines[:count] if line.strip("# "))
    _check(about, path)
    rows = csv.reader(lines[count:], strict=True)
    try:
        names = [name.strip() for name in next(rows, [])]
        if not {*_MUST} <= {*names} <= {*_COLUMNS} or len({*names}) < len(names):
            raise TableError(
                f"{path}: got the columns {names}, allowed are {list(_MUST)} and {list(_MAY)}"
            )
        timings = [
            _timing(names, row, f"{path}, line {count + rows.line_num}") for row in rows if row
        ]
    except csv.Error as error:
        raise TableError(f"{path}: no CSV: {error}") from error
    return tuple(timings), about


def array_file(
    path: Path, layers: Sequence[str] | None, unit: str | None
) -> tuple[NDArray[Any], Sequence[str], dict[str, str]]:
    """An array in HAQ's form, the names of its layers, and what is said about it.

    Args:
        path: of a ``.npy`` file.
        layers: their names; those of the ``.json`` file when left out.
        unit: of the array; that of the ``.json`` file when left out.

    Raises:
        TableError: as :func:`csv_file`.
    """
    beside = path.with_suffix(".json")
    fields = _sidecar(beside) if layers is None or unit is None else {}
    names = fields.pop("layers", None)
    if layers is None:
        if not isinstance(names, list) or not all(isinstance(own, str) for own in names):
            raise TableError(f"{beside}: layers: got {names!r}, allowed is a list of names")
        layers = names
    about = {str(name): " ".join(str(value).split()) for name, value in fields.items()}
    if unit is not None:
        about["unit"] = unit
    _check(about, path)
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TableError(f"{path}: no array of numbers: {error}") from error
    if not isinstance(values, np.ndarray):
        raise TableError(f"{path}: got several arrays, allowed is one")
    return values, layers, about


def _sidecar(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise TableError(f"{path}: no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise TableError(f"{path}: got {type(fields).__name__}, allowed are names and values")
    return fields


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"latency table: cannot read {path}: {error}") from error


def _header(line: str, path: Path) -> tuple[str, str]:
    name, colon, text = line.lstrip("#").partition(":")
    if not colon:
        raise TableError(f"{path}: got the line {line!r}, allowed is '# name: text'")
    return name.strip(), " ".join(text.split())


def _check(about: dict[str, str], path: Path) -> None:
    """Make sure of schema and unit, and leave them out."""
    schema, unit = about.pop("schema", SCHEMA), about.pop("unit", None)
    if schema != SCHEMA:
        raise TableError(f"{path}: schema is {schema!r}, this version reads {SCHEMA!r}")
    if unit != UNIT:
        raise TableError(
            f"{path}: unit: got {unit!r}, allowed is {UNIT!r}, milliseconds for one image, which "
            f"must be stated: '# unit: {UNIT}' above a CSV, 'unit' in the .json beside an array"
        )


def _timing(names: list[str], row: list[str], place: str) -> Timing:
    if len(row) != len(names):
        raise TableError(f"{place}: got {len(row)} cells, allowed are {len(names)}")
    return Timing(**dict(_values(dict(zip(names, row, strict=True)), place)))


def _values(row: Mapping[str, str], place: str) -> Iterator[tuple[str, Any]]:
    for name, text in row.items():
        if text == "" and name in _MAY:
            continue
        try:
            yield _FIELDS.get(name, name), _COLUMNS[name](text)
        except ValueError as error:
            kind = "a number" if _COLUMNS[name] is float else "a whole number"
            raise TableError(f"{place}: {name}: got {text!r}, allowed is {kind}") from error
