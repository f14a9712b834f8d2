"""Bits as plain JSON that other programs write and read: layer to its two widths."""

import json
from pathlib import Path
from typing import Any

from dqmq_env.benchmark.job import RESULT_SCHEMA, Result
from dqmq_env.errors import AssignmentError
from dqmq_env.quantization.assignment import SCHEMA, BitAssignment
from dqmq_env.search.rule import Rule


def plain(bits: BitAssignment | Rule) -> dict[str, Any]:
    """Layer name to ``[weight bits, activation bits]``; of a rule, for each condition."""
    if isinstance(bits, Rule):
        return dict(bits.to_dict())
    return {name: list(pair) for name, pair in bits.items()}


def plain_text(bits: BitAssignment | Rule) -> str:
    """That as JSON, a layer in each line."""
    return json.dumps(plain(bits), indent=1) + "\n"


def read_bits(path: Path) -> BitAssignment | Rule:
    """Read an assignment or a rule from a JSON file.

    Four forms are known: what :meth:`BitAssignment.save` wrote; a plain ``{layer: [w, a]}``; a
    rule, ``{condition: {layer: [w, a]}}``; and a result of the benchmark, whose rule it is then.

    Raises:
        AssignmentError: the file is missing, or holds something else.
        ConditionError: a rule speaks of an unknown condition.
        ResultError: a result of the benchmark is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise AssignmentError(f"assignment: cannot read {path}: {error}") from error
    if not isinstance(data, dict) or not data:
        raise AssignmentError(f"assignment: {path} holds no layers, allowed is layer to [w, a]")
    schema = data.get("schema")
    if schema == RESULT_SCHEMA:
        return Rule.from_dict(Result.from_json(text).rule)
    if schema == SCHEMA:
        return BitAssignment.from_json(text)
    if isinstance(schema, str):
        raise AssignmentError(
            f"assignment: {path} has the schema {schema!r}, allowed are {SCHEMA!r}, "
            f"{RESULT_SCHEMA!r}, or plain JSON without one"
        )
    if all(isinstance(value, dict) for value in data.values()):
        return Rule.from_dict(data)
    return BitAssignment(data)
