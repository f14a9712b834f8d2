"""``dqmq search`` and what stands behind it: one measurement, a programme for each budget."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.fast_search import FastSearch
from baselines.fast_search.sensitivities import Store
from baselines.fast_search.settings import FastSettings
from dqmq_env.cli import main
from dqmq_env.costs import Bops, Cost, Size
from dqmq_env.errors import BudgetError, CheckpointError, SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import SeparateDecisions

WORDS = ["search", "--env", "DQMQ-ResNet8-v0", "--bits", "2", "4", "8"]


@pytest.fixture(scope="module")
def problem(make_tiny_problem: Callable[..., NetworkProblem]) -> NetworkProblem:
    return make_tiny_problem(activation_bits=8)


@pytest.fixture(scope="module")
def search(problem: NetworkProblem) -> FastSearch:
    return FastSearch(problem, FastSettings(images=40, refine=4))


@settings(max_examples=25)
@given(st.floats(0.3, 1.2), st.sampled_from([Size(), Bops()]))
def test_every_budget_is_kept(
    search: FastSearch, problem: NetworkProblem, fraction: float, cost: Cost
) -> None:
    least = problem.cost(problem.uniform(2))[cost.name]
    if fraction < least:
        with pytest.raises(BudgetError):
            search.find(Budget(cost, fraction))
        return
    found = search.find(Budget(cost, fraction))
    assert problem.cost(found)[cost.name] <= fraction + 1e-9
    assert found == search.find(Budget(cost, fraction))  # whatever was asked for in between


def test_more_room_is_never_further_from_float(search: FastSearch) -> None:
    found = [search.find(Budget(Size(), own)) for own in (0.35, 0.5, 0.75, 1.0)]
    apart = [search.sample.divergence(own) for own in found]
    assert apart[0] > apart[-1]
    assert apart[-1] == min(apart)
    assert set(found[-1].values()) == {(8, 8)}


def test_it_is_nearer_to_float_than_uniform_bits_topped_up_at_random(
    search: FastSearch, problem: NetworkProblem
) -> None:
    """Against every assignment within the budget: 3 widths of 6 layers are 729."""
    budget = 0.5
    found = search.sample.divergence(search.find(Budget(Size(), budget)))
    layers = [name for name, own in problem.candidates.items() if len(own) > 1]
    draw = np.random.default_rng(0)
    others = []
    while len(others) < 60:
        bits = dict.fromkeys(problem.candidates, (8, 8))
        bits |= {name: (int(draw.choice((2, 4, 8))), 8) for name in layers}
        assignment = BitAssignment(bits)
        if budget - 0.1 < problem.cost(assignment)["size"] <= budget:
            others.append(search.sample.divergence(assignment))
    assert found <= min(others) + 1e-4


def test_weights_and_activations_apart(make_tiny_problem: Callable[..., NetworkProblem]) -> None:
    problem = make_tiny_problem()
    search = FastSearch(problem, FastSettings(images=20), SeparateDecisions())
    found = search.find(Budget(Bops(), 0.3))
    assert problem.cost(found)["bops"] <= 0.3
    assert any(pair.weight != pair.activation for pair in found.values())


def test_settings_below_one_are_refused() -> None:
    for wrong in ({"images": 0}, {"refine": -1}):
        with pytest.raises(SettingError, match=next(iter(wrong))):
            FastSettings(**wrong)


# What is kept.


def test_a_search_goes_on_where_it_was_killed(problem: NetworkProblem, tmp_path: Path) -> None:
    fast = FastSettings(images=40, refine=3)
    whole = Store(tmp_path / "whole.dqmq", {"x": 1})
    expected = FastSearch(problem, fast, store=whole).find(Budget(Size(), 0.5))
    rows = whole.load()
    assert len(rows) > 0
    part = Store(tmp_path / "part.dqmq", {"x": 1})
    part.save(rows[:1])
    search = FastSearch(problem, fast, store=part)
    assert part.load() == rows
    assert search.find(Budget(Size(), 0.5)) == expected
    before = part.path.stat().st_mtime_ns
    FastSearch(problem, fast, store=part)
    assert part.path.stat().st_mtime_ns == before  # nothing was left to measure


def test_foreign_and_damaged_sensitivities_are_refused(
    problem: NetworkProblem, tmp_path: Path
) -> None:
    store = Store(tmp_path / "kept.dqmq", {"x": 1})
    FastSearch(problem, FastSettings(images=20, refine=1), store=store)
    with pytest.raises(CheckpointError, match="another network, other images or settings"):
        Store(store.path, {"x": 2}).load()
    content = store.path.read_bytes()
    for damaged in (content[:-9], content[: len(content) // 2], b"", b"junk"):
        store.path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            store.load()


# The command.


def run(*words: str) -> None:
    main([*WORDS, "--images", "32", "--search-images", "100", *words])


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "front"
    run("--cost", "size", "--budget", "0.6", "--sweep", "3", "--run", str(folder))
    return folder


def test_a_sweep_writes_table_picture_and_bits(swept: Path) -> None:
    with (swept / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    front = json.loads((swept / "front.json").read_text())
    assert len(rows) == len(front["rows"])
    assert (swept / "front.png").read_bytes()[:4] == b"\x89PNG"
    kept = sorted((swept / "bits").glob("*.json"))
    assert len(kept) >= 3
    found = [own for own in front["rows"] if own["budget"] is not None]
    assert len(found) == 3
    for own in found:
        assert own["cost_size"] <= own["budget"] + 1e-9


def test_another_process_finds_the_same(swept: Path, tmp_path: Path) -> None:
    words = ["--cost", "size", "--budget", "0.6", "--sweep", "3", "--run", str(tmp_path / "again")]
    code = f"from dqmq_env.cli import main; main({[*WORDS, *FAST, *words]!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    for own in sorted((swept / "bits").glob("*.json")):
        assert (tmp_path / "again" / "bits" / own.name).read_bytes() == own.read_bytes()
    ours, theirs = (
        json.loads((folder / "front.json").read_text()) for folder in (swept, tmp_path / "again")
    )
    assert ours == theirs


FAST = ["--images", "32", "--search-images", "100"]


def test_a_killed_command_given_again_ends_alike(swept: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    words = ["--cost", "size", "--budget", "0.6", "--sweep", "3", "--run", str(folder)]
    code = f"from dqmq_env.cli import main; main({[*WORDS, *FAST, *words]!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (folder / "sensitivities.dqmq").is_file() or list(folder.glob("bits/*")):
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.01)
    process.wait()
    assert folder.is_dir()
    run(*words)
    assert (folder / "front.json").read_text() == (swept / "front.json").read_text()


def test_a_folder_of_other_settings_is_refused(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run("--cost", "bops", "--budget", "0.6", "--refine", "3", "--run", str(swept))
    assert "holds a run with other settings" in capsys.readouterr().err


def test_another_agent_searches_within_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = ["--agent", "baselines.random_search:RandomSearch", "--evaluations", "60"]
    words = [*agent, "--cost", "bops", "--budget", "0.3"]
    run(*words, "--run", str(tmp_path / "random"))
    front = json.loads((tmp_path / "random" / "front.json").read_text())
    (found,) = (own for own in front["rows"] if own["budget"] is not None)
    assert found["cost_bops"] <= 0.3
    with pytest.raises(SystemExit):
        run(
            "--agent",
            "baselines.nobody:Nobody",
            "--budget",
            "0.3",
            "--run",
            str(tmp_path / "nobody"),
        )
    assert "baselines.nobody" in capsys.readouterr().err
    assert not (tmp_path / "nobody").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "0.01"], "budget"),
        (["--budget", "inf"], "budget"),
        (["--budget", "0.5", "--sweep", "-1"], "sweep: got -1"),
    ],
)
def test_wrong_words_are_refused_before_any_work(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(*words, "--run", str(tmp_path / "none"))
    assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
