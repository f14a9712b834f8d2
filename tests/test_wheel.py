"""The wheel alone, without the repository, the network or torch."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("dqmq_env", "agents", "baselines", "pyproject.toml", "README.md", "LICENSE")

PLAYING = """
import socket, sys
sys.modules["torch"] = None  # whoever imports it fails
def refuse(*args, **kwargs):
    raise OSError("no network")
socket.socket.connect = refuse
import gymnasium, dqmq_env
env = gymnasium.make("DQMQ-ResNet8-Tabular-v0")
env.reset(seed=0)
done = False
while not done:
    _, _, done, _, info = env.step(env.action_space.sample())
problem = env.unwrapped.problem
for condition in problem.mixture.conditions:
    print(condition, problem.optimum(condition).reward)
print(dqmq_env.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing old is left over in it."""
    copy, output = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        if (ROOT / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, copy / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, copy / part)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(output), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = output.glob("dqmq_env-*.whl")
    return found


def test_it_holds_the_table_and_stays_small(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "dqmq_env/problem/tables/resnet8-fashion-mnist.safetensors" in names
    assert "dqmq_env/problem/tables/resnet8-fashion-mnist.json" in names
    assert wheel.stat().st_size < 20 * 2**20


def test_it_plays_and_knows_the_optimum_of_each_condition(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(target)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    result = subprocess.run(
        [sys.executable, "-c", PLAYING],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    *optima, place = result.stdout.strip().splitlines()
    assert Path(place).is_relative_to(target)
    assert len(optima) >= 9
    assert all(0 < float(line.split()[1]) <= 1 for line in optima)
