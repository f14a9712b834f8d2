"""The folder of a run, which belongs to the settings that it was begun with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dqmq_env.errors import CheckpointError
from dqmq_env.files import atomic_write_text


def claim_run_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write ``settings.json`` into the folder, or make sure that it is the one there.

    Args:
        folder: of the run; made where it is missing.
        settings: all that a run's numbers depend on, as JSON can hold it.

    Raises:
        CheckpointError: the folder holds a run with other settings.
    """
    path = folder / "settings.json"
    text = json.dumps(settings, indent=2) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise CheckpointError(
            f"--run: {folder} holds a run with other settings; choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, text)
