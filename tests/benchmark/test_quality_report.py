"""The reports about the value of quality: of a live network, and of the shipped table."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dqmq_env.benchmark import quality_report, tabular
from dqmq_env.benchmark.image_answers import collect
from dqmq_env.benchmark.quality_report import ReportArguments, load_problem, proposed, report
from dqmq_env.benchmark.quality_study import BLIND, RULE, SINGLE, answers_by_image, study
from dqmq_env.errors import SettingError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.task.task import Task

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def problem(make_tiny_problem: Callable[..., NetworkProblem]) -> NetworkProblem:
    return make_tiny_problem(bits=(2, 4, 8), conditions=["clean", "gaussian_noise/5"])


def arguments(folder: Path, **changes: object) -> ReportArguments:
    settings = {"problem": "own:made", "images": 40, "budgets": (0.4, 0.7), **changes}
    return ReportArguments(output=folder, pictures=folder / "pictures", **settings)  # type: ignore[arg-type]


def test_proposed_assignments_are_distinct_and_hold_the_uniform_ones(
    problem: NetworkProblem,
) -> None:
    found = proposed(problem, 4)
    assert len(set(found)) == len(found) <= 3 + 2 * 4
    assert {problem.uniform(bits) for bits in (2, 4, 8)} <= set(found)


def test_a_study_is_consistent(problem: NetworkProblem) -> None:
    images = collect(problem, proposed(problem, 4), "bops", 40)
    answers = answers_by_image(images)
    found = study(answers, (0.4, 0.7), images)
    curves, gains = found.curves(), found.gains()
    assert set(curves) - set(gains) == {SINGLE, BLIND}
    assert list(curves[RULE].accuracy) == [value.rule.test for value in found.values]
    for value in found.values:
        assert value.single.search <= value.blind.search + 1e-12
        assert value.blind.search <= value.rule.search + 1e-12
    for rules in found.by_image.values():
        for rule in rules:
            assert rule.gain.low is not None
            assert rule.gain.high is not None
            assert rule.gain.low <= rule.gain.value <= rule.gain.high
            assert rule.choice.correct.mean() == pytest.approx(rule.choice.accuracy)


def test_a_report_of_an_own_problem(problem: NetworkProblem, tmp_path: Path) -> None:
    text = report(problem, arguments(tmp_path))
    assert "assignments from measured sensitivities" in text
    assert "--problem own:made --budgets 0.4 0.7 --images 40`" in text
    assert len(re.findall(r"^\| (?:40|70)\.0% \|", text, re.MULTILINE)) == 2
    assert (tmp_path / "pictures" / "quality-own-made.png").read_bytes()[:4] == PNG


def test_a_function_of_ones_own_is_called(
    problem: NetworkProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_problems.py").write_text("made = wrong = lambda: 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingError, match="returned int"):
        load_problem("my_problems:wrong")
    monkeypatch.setattr("my_problems.made", lambda: problem)
    assert load_problem("my_problems:made") is problem


@pytest.mark.parametrize("name", ["resnet9", "no_such_module:made", "math:made"])
def test_a_problem_that_is_not_there_is_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        quality_report.main(["--problem", name, "--output", str(tmp_path)])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_report_of_the_shipped_table(tmp_path: Path) -> None:
    output = tmp_path / "TABULAR.md"
    tabular.main(["--output", str(output), "--pictures", str(tmp_path), "--budgets", "0.2", "0.4"])
    text = output.read_text()
    problem = TableProblem(load_table("resnet8-fashion-mnist"))
    for condition in problem.mixture.conditions:
        best = problem.optimum(condition, Task())
        assert f"| {condition} |" in text
        assert f"{best.reward:.4f}" in text
    for name in ("fronts", "value", "regret"):
        assert (tmp_path / f"tabular-{name}.png").read_bytes()[:4] == PNG
    value = problem.value_of_quality(0.2)
    assert f"{100 * value.rule.test:.2f}" in text


def test_uniform_bits_stand_beside_what_was_chosen() -> None:
    problem = TableProblem(load_table("resnet8-fashion-mnist"))
    widths = problem.table.card.recipe["bits"]
    lines = tabular.uniform(problem)[2:]
    for width, line in zip(widths, lines, strict=True):
        bits = {
            n: (own[0],) * 2 if len(own) == 1 else (width,) * 2
            for n, own in problem.candidates.items()
        }
        accuracy = np.mean(
            [
                problem.evaluate(BitAssignment(bits), c, "test").accuracy
                for c in problem.mixture.conditions
            ]
        )
        assert line.startswith(f"| {width} |")
        assert f"| {100 * accuracy:.2f} |" in line


def test_the_regret_of_random_search_is_that_of_many_random_searches() -> None:
    problem = TableProblem(load_table("resnet8-fashion-mnist"), ["clean", "jpeg/3"])
    task = Task()
    curve = tabular.regret_curve(problem, task, (1, 10, 200))
    rng = np.random.default_rng(0)
    regrets = np.stack([problem.regrets(c, task) for c in problem.mixture.conditions])
    for place, count in enumerate(curve.evaluations):
        rows = rng.integers(2, size=4000)
        drawn = rng.integers(problem.count, size=(4000, int(count)))
        best = regrets[rows[:, None], drawn].min(1)
        chances = [(best < value).mean() for value in (curve.low[place], curve.high[place])]
        assert chances == pytest.approx([0.25, 0.75], abs=0.03)
