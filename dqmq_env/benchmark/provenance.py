"""Where numbers come from: the source code that ran, and the machine that it ran on."""

import hashlib
import platform
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from dqmq_env.machine import processor_name

_PACKAGES = ("torch", "numpy", "gymnasium", "stable-baselines3")


@lru_cache(maxsize=16)
def source_digest(module: str) -> str:
    """SHA-256 over the Python files of ``dqmq_env`` and of the package that a module is in.

    Args:
        module: dotted name.
    """
    digest = hashlib.sha256()
    for package in sorted({"dqmq_env", module.partition(".")[0]}):
        for name, path in sorted(_files(package)):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{package}/{name} {content}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def machine() -> dict[str, str]:
    """The processor, and the versions of Python and of the packages that compute."""
    found = {"processor": processor_name(), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _files(package: str) -> Iterator[tuple[str, Path]]:
    """Name inside the package and path of each Python file."""
    spec = find_spec(package)
    if spec is None:
        return
    if spec.submodule_search_locations is None and spec.origin is not None:
        yield Path(spec.origin).name, Path(spec.origin)
    for place in spec.submodule_search_locations or ():
        for path in Path(place).rglob("*.py"):
            yield path.relative_to(place).as_posix(), path
