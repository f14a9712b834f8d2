"""A training run that is killed with SIGKILL ends as one that was left alone."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agents.hybrid.train import main

TRAIN = (sys.executable, "-m", "agents.hybrid.train")
OPTIONS = (
    *("--checkpoint", "resnet8-width8-fashion-mnist", "--budget", "0.12", "--device", "cpu"),
    *("--images", "640", "--batch", "32", "--save-every", "5"),
    *("--settle-images", "64", "--value-images", "64", "--threads", "1", "--test-images", "50"),
)
PRESETS = {
    "by-value": ("--bits", "1", "2", "4", "--weight-bits", "2", "--refits", "2"),
    "by-layer": (),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_killed_run_resumes_and_ends_with_the_same_numbers(tmp_path: Path, preset: str) -> None:
    words = [preset, *OPTIONS, *PRESETS[preset]]
    command = [*TRAIN, *words]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    main([*words, "--run", str(whole)])
    process = subprocess.Popen(
        [*command, "--run", str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (killed / "state.dqmq").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (killed / "state.dqmq").exists()
    assert not (killed / "agent.dqmq").exists()
    subprocess.run([*command, "--run", str(killed)], check=True, capture_output=True)
    assert (killed / "agent.dqmq").read_bytes() == (whole / "agent.dqmq").read_bytes()
    evaluations = [json.loads((run / "evaluation.json").read_text()) for run in (whole, killed)]
    assert evaluations[0] == evaluations[1]


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}\n")
    done = subprocess.run(
        [*TRAIN, *OPTIONS, "--run", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("dqmq train: --run:")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["settings.json"]
