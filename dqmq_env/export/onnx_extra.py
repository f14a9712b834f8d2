"""The packages of the extra ``export``, which not everybody has."""

from collections.abc import Iterator
from contextlib import contextmanager

from dqmq_env.errors import SettingError


@contextmanager
def export_extra() -> Iterator[None]:
    """Name the extra where a package that the block imports is missing.

    Raises:
        SettingError: it is.
    """
    try:
        yield
    except ImportError as error:
        raise SettingError(
            f"ONNX needs the package {error.name!r}, which cannot be imported ({error}); "
            'pip install "dqmq-env[export]"'
        ) from error
