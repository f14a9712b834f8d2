"""What all command lines share; free of torch."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TextIO

import gymnasium as gym

from dqmq_env.errors import DQMQError


class ShadowedPackageError(DQMQError, ImportError):
    """Another distribution's package stands where ours should be."""


def own_package(name: str) -> ModuleType:
    """Import ``agents.*`` or ``baselines.*`` and make sure that it is this project's.

    Both names are generic: another distribution, or a folder in the working directory, may carry
    them too.

    Raises:
        ShadowedPackageError: what Python finds under that name is not ours.
    """
    top = name.partition(".")[0]
    package = import_module(top)
    marker = "of ``dqmq_env``."
    if marker not in (package.__doc__ or ""):
        place = Path(getattr(package, "__file__", None) or next(iter(package.__path__)))
        raise ShadowedPackageError(
            f"the package {top!r} at {place} is not this project's: another distribution or folder "
            "of that name stands before it. Install dqmq-env into a virtual environment of its own "
            f"(python -m venv), or run from a folder without {top!r} in it"
        )
    return import_module(name)


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """Turn what a user can correct into one line on the error stream and the exit status 2.

    Where nobody reads on, as behind ``| head``, the program ends without a word.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except (DQMQError, gym.error.Error) as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except BrokenPipeError:
        if not _unread(sys.stdout):  # it was another pipe
            raise
        raise SystemExit(1) from None


def _unread(stream: TextIO) -> bool:
    """Whether the reader of a stream is gone; what is left in it goes nowhere then."""
    try:
        print(file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return True
    return False
