"""The walk-through of docs/engineer.md runs as it is written."""

import csv
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dqmq_env.cli import main
from dqmq_env.evaluation.deployed import StaticNetwork
from dqmq_env.evaluation.report import Evaluation
from dqmq_env.export import load
from dqmq_env.export.bits_file import read_bits
from dqmq_env.quantization.assignment import BitAssignment

PAGE = (Path(__file__).parent.parent / "docs" / "engineer.md").read_text(encoding="utf-8")
BLOCKS = [part.partition("```")[0] for part in PAGE.split("```python\n")[1:]]
LINES = PAGE.partition("```console\n")[2].partition("```")[0].splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the page asks for: the module, its weights, and a folder of images of two classes."""
    root = tmp_path_factory.mktemp("engineer")
    (root / "mynet.py").write_text(BLOCKS[0])
    generator = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(180):
            pixels = (
                generator.integers(0, 120, (12, 12, 3)) + 100 * label * (np.arange(12) > 5)[:, None]
            )
            path = root / "photos" / name / f"{number}.jpg"
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.syspath_prepend(root)
        import mynet  # type: ignore[import-not-found]

        torch.manual_seed(0)
        network = mynet.make().train()
        with torch.no_grad():
            for _ in range(20):
                network(torch.randn(64, 3, 12, 12))
        torch.save(network.state_dict(), "mynet.pt")
        yield root
        del sys.modules["mynet"]


def run(line: str) -> None:
    program, *words = shlex.split(line.removeprefix("$ "))
    assert program == "dqmq"
    main(words)


def test_the_commands_run_as_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(LINES) <= 12
    for line in LINES:
        run(line)
    shown = capsys.readouterr().out
    assert "lost, points" in shown
    rows = list(csv.DictReader((folder / "runs/front/front.csv").read_text().splitlines()))
    found = [row for row in rows if row["budget"]]
    assert len(found) == 5
    assert all(float(row["cost_size"]) <= float(row["budget"]) + 1e-9 for row in found)
    assert json.loads((folder / "runs/front/front.json").read_text())["cost"] == "size"
    assert (folder / "runs/front/front.png").read_bytes().startswith(b"\x89PNG")
    whole, plain = (folder / f"runs/mine/bits/size-0.5{end}" for end in (".json", ".plain.json"))
    assert BitAssignment.load(whole) == BitAssignment(json.loads(plain.read_text()))
    mine = load(folder / "mine.dqmq", sys.modules["mynet"].make())
    assert isinstance(mine, StaticNetwork)
    assert mine.assignment == read_bits(whole)
    tuned = Evaluation.load(folder / "runs/tuned/evaluation.json")
    assert f"{100 * tuned.rows[0].accuracy:.2f}%" in (folder / "tuned.dqmq.md").read_text()
    assert (folder / "runs/joint/agent.dqmq").is_file()


def test_the_python_lines_run_as_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = BLOCKS[1]
    work = [line for line in code.splitlines() if line and "import" not in line]
    assert len(work) <= 12
    exec(compile(code, "engineer.md", "exec"), {})
    printed = [
        [float(own) for own in line.split()[:2]] for line in capsys.readouterr().out.splitlines()
    ]
    assert [budget for budget, _ in printed] == [0.375, 0.5, 0.75]
    assert all(cost <= budget for budget, cost in printed)
    assert (folder / "found.dqmq").is_file()
