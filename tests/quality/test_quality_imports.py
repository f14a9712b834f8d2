import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dqmq_env.data
import dqmq_env.quality


def run(code: str) -> str:
    """The output of `code` in a fresh interpreter that finds the same package."""
    root = str(Path(dqmq_env.quality.__file__).parents[2])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_conditions_mixtures_and_descriptor_names_need_no_torch() -> None:
    code = """
import sys
import dqmq_env.data
from dqmq_env.quality import DEFAULT_MIXTURE, DESCRIPTOR_NAMES, Condition, descriptor_operations
import numpy
DEFAULT_MIXTURE.sample(3, numpy.random.default_rng(0))
Condition.parse("jpeg/1")
descriptor_operations(28, 28, 1)
print([name for name in sys.modules if name.split(".")[0] in ("torch", "torchvision")])
"""
    assert run(code) == "[]\n"


def test_corruption_is_the_same_in_another_process() -> None:
    code = """
import hashlib, torch
from dqmq_env.quality import CORRUPTION_NAMES, Condition, corrupt
images = torch.arange(4 * 3 * 16 * 16).remainder(251).byte().view(4, 3, 16, 16)
results = [corrupt(images, Condition(name, 3), generator=5) for name in CORRUPTION_NAMES]
digests = [hashlib.sha256(result.numpy().tobytes()).hexdigest() for result in results]
"""
    here: dict[str, Any] = {}
    exec(code, here)
    assert len(set(here["digests"])) == len(dqmq_env.quality.CORRUPTION_NAMES)
    assert run(code + "print(digests)") == f"{here['digests']}\n"


@pytest.mark.parametrize("module", [dqmq_env.data, dqmq_env.quality])
def test_every_public_name_is_there_and_no_other(module: object) -> None:
    names: list[str] = module.__all__  # type: ignore[attr-defined]
    assert set(names) <= set(dir(module))
    for name in names:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = module.absent  # type: ignore[attr-defined]
