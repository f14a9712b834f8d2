"""The folder of a run, which belongs to the settings that it was begun with."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dqmq_env.errors import CheckpointError
from dqmq_env.files import atomic_write_text

SETTINGS = "settings.json"
_LOCK = ".lock"


@contextmanager
def working_in(folder: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Claim a folder, and be the only process that works in it within the block.

    A process that is killed leaves nothing behind that keeps the next one out.

    Args:
        folder: of the run; made where it is missing.
        settings: see :func:`claim_run_folder`.

    Raises:
        CheckpointError: the folder holds a run with other settings, or another process works in it.
    """
    _refuse_others(folder, _as_text(settings))  # a folder that is not ours gets no lock either
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise CheckpointError(
            f"--run: another process works in {folder}; wait for it, or choose another folder"
        ) from error
    try:
        claim_run_folder(folder, settings)
        yield
    finally:
        lock.release()


def claim_run_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write ``settings.json`` into the folder, or make sure that it is the one there.

    Args:
        folder: of the run; made where it is missing.
        settings: all that a run's numbers depend on, as JSON can hold it.

    Raises:
        CheckpointError: the folder holds a run with other settings.
    """
    text = _as_text(settings)
    _refuse_others(folder, text)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / SETTINGS, text)


def environment_of_run(folder: Path) -> tuple[str, dict[str, Any]] | None:
    """Id and keyword arguments of the environment that a run was about, where it says so.

    Raises:
        CheckpointError: the settings are damaged.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("environment")
        return None if found is None else (str(found["id"]), dict(found["settings"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"--run: {path} is damaged: {error!r}") from error


def _as_text(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, indent=2) + "\n"


def _refuse_others(folder: Path, text: str) -> None:
    path = folder / SETTINGS
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise CheckpointError(
            f"--run: {folder} holds a run with other settings{_differing(path, text)}; choose "
            "another folder"
        )


def _differing(path: Path, text: str) -> str:
    """Which settings are others, where that can be told."""
    try:
        there, here = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
        names = [name for name in here if there.get(name) != here[name]]
    except (ValueError, AttributeError, RecursionError):
        return ""
    return f" ({', '.join(names)})" if names else ""
