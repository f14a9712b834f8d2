"""Exports never replace a file that is there, unless they are told to."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from dqmq_env.errors import ExportError
from dqmq_env.files import atomic_write_bytes


def write_new(contents: Mapping[Path, bytes | str], force: bool = False) -> None:
    """Write files, each whole or not at all, and none where one of them is in the way.

    Args:
        contents: path to bytes, or to text that is written as UTF-8.
        force: replace files that are there.

    Raises:
        ExportError: a file is there, or a folder is missing or cannot be written.
    """
    check_new(contents, force)
    for path, content in contents.items():
        try:
            atomic_write_bytes(path, content.encode() if isinstance(content, str) else content)
        except OSError as error:
            raise ExportError(f"output: {path} cannot be written: {error}") from error


def check_new(paths: Iterable[Path], force: bool = False) -> None:
    """Make sure, before any long work, that files can be written there.

    Raises:
        ExportError: a file is there and ``force`` is not set, or a folder is missing.
    """
    for path in paths:
        if not path.parent.is_dir():
            raise ExportError(f"output: there is no folder {path.parent}")
        if path.exists() and not force:
            raise ExportError(f"output: {path} is there already; --force replaces it")
