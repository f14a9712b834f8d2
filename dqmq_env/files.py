"""Writing files so that a reader finds the old content or the new one, never half of it."""

import contextlib
import os
import secrets
from pathlib import Path


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Replace the content of `path` by `data` in one step.

    The bytes go to a temporary name in the same folder, reach the disk (`fsync`), and are then
    renamed; a process killed at any moment leaves the previous file, if there was one, untouched.

    Args:
        path: File to write; its folder must exist. A symbolic link is followed, so that the file
            it points to is replaced and the link stays.
        data: The whole new content.

    Raises:
        OSError: The folder is missing or not writable, or the disk is full. The temporary file is
            removed.
    """
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    # Unlike tempfile, which always gives 0600, this leaves the permissions to the umask.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Replace the content of `path` by `text`, encoded as UTF-8 with line ends left as they are.

    Args:
        path: File to write; its folder must exist.
        text: The whole new content.

    Raises:
        OSError: As `atomic_write_bytes`.
    """
    atomic_write_bytes(path, text.encode("utf-8"))


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut, where the system can do so."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
