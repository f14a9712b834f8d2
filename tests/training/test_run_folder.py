import subprocess
import sys
from pathlib import Path

import pytest

from dqmq_env.errors import CheckpointError
from dqmq_env.training.run_folder import claim_run_folder, working_in

SETTINGS = {"seed": 0}
HOLDING = """
import sys, time
from pathlib import Path
from dqmq_env.training.run_folder import working_in
with working_in(Path(sys.argv[1]), {"seed": 0}):
    print("here", flush=True)
    time.sleep(600)
"""


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """Until it is killed, which must keep no one out."""
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(folder)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        try:
            assert other.stdout.readline() == "here\n"
            with (
                pytest.raises(CheckpointError, match=r"^--run: another process works in .*run; "),
                working_in(folder, SETTINGS),
            ):
                pass
        finally:
            other.kill()
    with working_in(folder, SETTINGS):
        assert (folder / "settings.json").is_file()


def test_a_folder_is_free_again_whatever_happened(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), working_in(tmp_path, SETTINGS):
        raise ZeroDivisionError
    with (
        pytest.raises(CheckpointError, match=r"holds a run with other settings \(seed\)"),
        working_in(tmp_path, {"seed": 1}),
    ):
        pass
    with working_in(tmp_path, SETTINGS):
        claim_run_folder(tmp_path, SETTINGS)
