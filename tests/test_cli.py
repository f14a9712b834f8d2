import os
import sys
from pathlib import Path

import pytest

from dqmq_env.cli import main
from dqmq_env.program import ShadowedPackageError, one_line_errors, own_package
from dqmq_env.version import __version__


def test_no_command_prints_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    shown = capsys.readouterr().out
    for command in ("envs", "train", "demo", "cost"):
        assert command in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


def test_envs_lists_every_id(capsys: pytest.CaptureFixture[str]) -> None:
    from dqmq_env.registration import ENTRIES

    main(["envs"])
    shown = capsys.readouterr().out
    assert all(entry.id in shown for entry in ENTRIES)


@pytest.mark.parametrize("words", [["envs"], ["cost", "--help"]])
def test_a_reader_that_leaves_early_is_no_error(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        with pytest.raises(SystemExit) as stop:
            main(words)
    assert stop.value.code == 1
    assert capsys.readouterr().err == ""


def test_another_broken_pipe_is_one() -> None:
    with pytest.raises(BrokenPipeError), one_line_errors("dqmq"):
        raise BrokenPipeError


def test_cost_prints_the_known_size(capsys: pytest.CaptureFixture[str]) -> None:
    main(["cost"])
    # 268,048 weights of the grey ResNet-20 at 8 bits
    assert "261.8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["bogus"], "unknown command 'bogus'"),
        (["cost", "--checkpoint", "bogus"], "no checkpoint 'bogus'"),
        (["train", "--checkpoint", "bogus"], "no checkpoint 'bogus'"),
        (["train", "--budget", "0.001"], "budget: got 0.001, the smallest reachable"),
        (["train", "--env", "Bogus-v0"], "Bogus"),
        (["train", "--bits", "2", "9"], "got 9 bits"),
        (["train", "--data", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_input_gives_one_line_and_exit_code_2(
    words: list[str],
    part: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert part in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "Examples" in shown
    assert "--budget" in shown


def test_a_package_that_shadows_ours_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "agents"
    package.mkdir()
    (package / "__init__.py").write_text('"""Somebody else\'s agents."""\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "agents"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ShadowedPackageError, match="virtual environment of its own"):
        own_package("agents.hybrid.train")
