"""Experiments: what is compared is the same for all, what is done is not done again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.experiments.command import main
from agents.experiments.figures import difference, mean_of
from agents.experiments.judge import (
    DEALT,
    DEALT_GRIDS,
    SEEN,
    UNSEEN,
    UNSEEN_SEVERITIES,
    judge_under,
)
from agents.experiments.methods import METHODS
from agents.experiments.probes import DealtBits, DealtGrids, WrongQuality
from agents.experiments.result import Run, RunResult, load_results
from agents.experiments.run import runs_of
from agents.experiments.study import load_study, study_names
from agents.hybrid.agent import HybridAgent
from agents.hybrid.settings import HybridSettings
from dqmq_env.data import ImageData
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.errors import ResultError, SettingError
from dqmq_env.evaluation.deployed import Prediction
from dqmq_env.quality import Mixture
from dqmq_env.training.loop import Schedule

SMOKE = ["run", "smoke", "--methods", "hybrid, static", "hybrid, by image"]


def test_a_study_that_is_based_on_itself_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(f'based_on = "{second}"\n', encoding="utf-8")
    second.write_text(f'based_on = "{first}"\n', encoding="utf-8")
    with pytest.raises(ResultError, match=f"study: {first} is based on itself"):
        load_study(str(first))


def test_a_study_has_what_it_leaves_out_from_the_one_it_is_based_on() -> None:
    base, own = load_study("resnet8"), load_study("resnet8-long")
    assert own == replace(
        base, name="resnet8-long", seeds=(0, 1, 2, 3, 4), train_images=3 * base.train_images
    )
    assert load_study("resnet8-long", seeds=(7,)).seeds == (7,)


@pytest.mark.parametrize("name", study_names())
def test_shipped_studies_can_begin(name: str) -> None:
    study = load_study(name)
    assert set(study.methods) <= set(METHODS)
    assert len({run.slug for run in runs_of(study)}) == len(runs_of(study))
    seen = {own.corruption for own in study.mixture.conditions}
    assert "clean" in seen
    assert not seen & set(study.held_out)
    for own in study.mixture.conditions:
        assert own.severity in (0, *study.severities)


@pytest.mark.parametrize("name", study_names())
def test_what_is_held_out_is_never_trained_on(name: str) -> None:
    study = load_study(name)
    known = set(study.mixture.conditions)
    for others in (study.unseen, study.unseen_severities):
        if others is not None:
            assert not known & set(others.conditions)


def test_every_corruption_occurs_equally_often() -> None:
    mixture = load_study("smoke", severities=(1, 3, 5)).mixture
    shares: dict[str, float] = {}
    for own, share in zip(mixture.conditions, mixture.probabilities, strict=True):
        shares[own.corruption] = shares.get(own.corruption, 0.0) + share
    assert len(shares) == 8  # clean, and seven of eight corruptions
    assert max(shares.values()) == pytest.approx(min(shares.values()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "smok", "--run", "x"], "study: got 'smok', allowed are"),
        (["run", "smoke", "--run", "x", "--methods", "magic"], "methods: got ['magic']"),
        (["run", "smoke", "--run", "x", "--jobs", "0"], "jobs: got 0"),
        (["report", "--run", "x", "--output", "y"], "run: got x, which holds no results"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, few_images: Path) -> Path:
    """The folder of an experiment with two runs."""
    folder = tmp_path_factory.mktemp("experiment") / "run"
    main([*SMOKE, "--run", str(folder), "--data", str(few_images)])
    return folder


def test_all_methods_are_judged_on_the_same_images(done: Path) -> None:
    results = load_results(done / "results")
    assert [own.run.method for own in results] == ["hybrid, by image", "hybrid, static"]
    for name in (SEEN, UNSEEN, UNSEEN_SEVERITIES):
        first, second = ([(r.condition, r.images) for r in own.rows[name]] for own in results)
        assert first == second
    for name in (DEALT, DEALT_GRIDS):
        assert name in results[0].rows
        assert name not in results[1].rows  # nothing to deal where nothing follows the image
    for own in results:
        for rows in own.rows.values():
            assert all(0 <= row.correct <= row.images for row in rows)
            assert all(0 < row.cost < 1 for row in rows)
    assert not (done / "work").exists()


def test_methods_that_find_the_same_bits_end_with_the_same_network(
    tmp_path: Path, few_images: Path
) -> None:
    words = ["run", "smoke", "--run", str(tmp_path), "--data", str(few_images)]
    words += ["--budgets", "0.0865"]  # which leaves nothing but 2 bits
    main([*words, "--methods", "uniform", "HAQ-style DDPG"])
    first, second = load_results(tmp_path / "results")
    assert first.assignment == second.assignment
    assert first.rows == second.rows


def test_one_training_serves_all_budgets_of_its_range(tmp_path: Path, few_images: Path) -> None:
    study = load_study("smoke", data=str(few_images), many=(0.1, 0.3), train_images=128)
    method = METHODS["hybrid, many budgets"]
    networks = [method(study, budget, 0, tmp_path / str(budget)).network for budget in (0.3, 0.15)]
    first, second = (own.network.state_dict() for own in networks)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert len(list(tmp_path.rglob("state.dqmq"))) == 1
    assert networks[0].budget == 0.3
    assert networks[1].budget == 0.15
    with pytest.raises(SettingError, match="budget: got"):
        method(study, 0.4, 0, tmp_path / "0.4")


def test_what_is_done_is_not_done_again(done: Path, few_images: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (done / "results").iterdir()}
    main([*SMOKE, "--run", str(done), "--data", str(few_images)])
    assert {path: path.stat().st_mtime_ns for path in (done / "results").iterdir()} == before


def test_what_was_done_by_a_method_that_has_changed_is_done_again(
    tmp_path: Path, few_images: Path
) -> None:
    words = ["run", "smoke", "--run", str(tmp_path), "--data", str(few_images)]
    words += ["--methods", "uniform"]
    main(words)
    (own,) = load_results(tmp_path / "results")
    replace(own, recipe="of before", seconds=-1.0).save(tmp_path / "results")
    main(words)
    (again,) = load_results(tmp_path / "results")
    assert again.recipe == own.recipe
    assert again.rows == own.rows
    assert again.seconds > 0


def test_a_folder_belongs_to_its_study(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path("agents/experiments/studies/smoke.toml")).read_text(encoding="utf-8")
    other = tmp_path / "other.toml"
    other.write_text(text.replace("train_images = 256", "train_images = 512"), encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["run", str(other), "--run", str(done)])
    assert "train_images" in capsys.readouterr().err


def test_the_report_has_every_method_and_all_numbers(done: Path, tmp_path: Path) -> None:
    main(["report", "--run", str(done), "--output", str(tmp_path)])
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for own in load_results(done / "results"):
        assert f"| {own.run.method} | 1 | {100 * own.accuracy(SEEN):.2f} |" in text
    for line in text.splitlines():
        if line.startswith("!["):
            picture = tmp_path / line.partition("(")[2].rstrip(")")
            assert picture.read_bytes().startswith(b"\x89PNG")
    rows = (tmp_path / "runs.csv").read_text(encoding="utf-8").splitlines()
    written = sum(len(r) for own in load_results(done / "results") for r in own.rows.values())
    assert len(rows) == 1 + written


def test_the_overview_has_each_lead_over_each_opponent(done: Path, tmp_path: Path) -> None:
    main(["overview", str(done), "--output", str(tmp_path)])
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    image, static = load_results(done / "results")
    for name in (SEEN, UNSEEN):
        lead = 100 * (image.accuracy(name) - static.accuracy(name))
        accuracy, cost = 100 * image.accuracy(name), 100 * image.cost(name)
        assert f"| **hybrid, by image** | {accuracy:.2f} at {cost:.2f}% (1) |" in text
        assert f"| above hybrid, static | {lead:+.2f} (1) |" in text
    assert f"| hybrid, by image | {image.images_evaluated:,} |" in text
    assert (tmp_path / "points-above.png").read_bytes().startswith(b"\x89PNG")


def test_the_overview_tells_of_opponents_that_spend_more(done: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(done, run)
    image, static = load_results(run / "results")
    known = static.rows[SEEN]
    dearer = [replace(row, cost=2 * row.cost, correct=row.correct // 2) for row in known]
    higher = replace(static.run, budget=2 * static.run.budget)
    replace(static, run=higher, rows={**static.rows, SEEN: dearer}).save(run / "results")
    main(["overview", str(run), "--output", str(tmp_path)])
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    own, its = 100 * image.cost(SEEN), 200 * static.cost(SEEN)
    correct, looks = sum(row.correct for row in dearer), sum(row.images for row in dearer)
    lead = 100 * (image.accuracy(SEEN) - correct / looks)
    row = f"| {own:.2f}% | hybrid, static | {its:.2f}% | {own / its:.2f} | {lead:+.2f} (1) |"
    assert text.count(row) == 1
    assert text.count("**hybrid, by image**") == 2  # the higher budget has no column of its own


def test_an_overview_of_no_opponents_is_refused(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "run"
    shutil.copytree(done, alone)
    next((alone / "results").glob("*static*")).unlink()
    with pytest.raises(SystemExit):
        main(["overview", str(done), str(alone), "--output", str(tmp_path / "made")])
    assert f"runs: got {alone}, which compares" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_damaged_results_are_refused(done: Path, tmp_path: Path) -> None:
    path = next((done / "results").iterdir())
    for text in ("", "{}", "[]", path.read_text(encoding="utf-8")[:-40], '{"schema": "other"}'):
        (tmp_path / "damaged.json").write_text(text, encoding="utf-8")
        with pytest.raises(ResultError, match=r"damaged\.json is no dqmq-experiment"):
            RunResult.load(tmp_path / "damaged.json")


def test_a_method_that_fails_is_named_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "smoke", "--run", str(tmp_path), "--budgets", "0.02", "--methods", "uniform"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1
    assert "uniform at 0.02 by seed 0: BudgetError" in capsys.readouterr().err
    settings = json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))
    assert settings["name"] == "smoke"


class ByBrightness:
    """Says class 1 of bright images, at a cost that grows with their brightness."""

    def __call__(self, images: Tensor) -> Prediction:
        bright = images.float().mean((1, 2, 3))
        logits = torch.zeros(len(images), 10)
        logits[:, 1] = (bright > 60).float() - 0.5
        return Prediction(logits, bright / 255, (bright[:, None] / 32).round().long())


def test_rows_are_sums_over_the_images_of_a_condition(tiny_data: ImageData) -> None:
    mixture = Mixture({"clean": 1, "contrast/5": 1})
    rows = judge_under(ByBrightness(), tiny_data.test, mixture, passes=3)["seen"]
    assert sum(row.images for row in rows) == 3 * len(tiny_data.test)
    again = judge_under(ByBrightness(), tiny_data.test, mixture, passes=3)
    assert again == {"seen": rows}
    assert {row.condition for row in rows} == {"clean", "contrast/5"}
    assert all(len(row.bits) == 1 and row.spread[0] > 0 for row in rows)


@pytest.fixture(scope="module")
def agent(make_tiny_problem: Any) -> HybridAgent:
    problem = make_tiny_problem(bits=(1, 2, 4), weight_bits=2, granularity="image")
    settings = HybridSettings(
        budget=0.1,
        decides="network",
        distribution="value",
        sees=("quality",),
        follow=("bits", "grids"),
        value_images=64,
        settle_images=64,
    )
    return HybridAgent(BitWidthEnv(problem), settings, Schedule(images=320, batch=32)).learn()


def test_dealt_bits_occur_as_often_and_cost_as_much(agent: HybridAgent) -> None:
    network, images = agent.deployed(), agent.problem.data.train.images[:96]
    own = network(images)
    dealt = DealtBits(network)(images, own)
    assert torch.equal(own.bits.sort(0).values, dealt.bits.sort(0).values)
    assert not torch.equal(own.bits, dealt.bits)
    assert float(own.cost.mean()) == pytest.approx(float(dealt.cost.mean()))
    moved = (own.bits != dealt.bits).any(1)
    torch.testing.assert_close(own.logits[~moved], dealt.logits[~moved], atol=1e-4, rtol=1e-4)


def test_dealt_grids_leave_bits_and_cost_alone(agent: HybridAgent) -> None:
    network, images = agent.deployed(), agent.problem.data.train.images[:96]
    own = network(images)
    dealt = DealtGrids(network)(images, own)
    assert torch.equal(own.bits, dealt.bits)
    assert torch.equal(own.cost, dealt.cost)
    assert not torch.allclose(own.logits, dealt.logits, atol=1e-3)
    alike = network.at_bits(images, own.bits, images)
    torch.testing.assert_close(own.logits, alike, atol=1e-4, rtol=1e-4)


def test_a_hidden_descriptor_leaves_nothing_to_follow(agent: HybridAgent) -> None:
    network, images = agent.deployed(), agent.problem.data.train.images[:96]
    own = network(images)
    assert len(own.bits.unique(dim=0)) > 1
    hidden = WrongQuality(network, hidden=True)(images, own)
    assert len(hidden.bits.unique(dim=0)) == 1  # this policy sees nothing else
    wrong = WrongQuality(network, hidden=False)(images, own)
    assert not torch.equal(wrong.bits, own.bits)


def test_intervals_and_paired_differences() -> None:
    found = mean_of([1.0, 2.0, 3.0, 4.0])
    assert found.value == 2.5
    assert found.high - found.value == pytest.approx(2.054, abs=1e-3)  # t(3) = 3.182, s = 1.291
    assert mean_of([1.0]).low != mean_of([1.0]).low  # NaN

    def result(method: str, seed: int, seconds: float) -> RunResult:
        return RunResult(Run(method, 0.1, seed), "", {}, None, 0, 0, seconds, {})

    results = [result("a", seed, seed + 2.0) for seed in range(5)]
    results += [result("b", seed, float(seed)) for seed in range(1, 7)]
    apart = difference(results, "a", "b", lambda own: own.seconds)
    assert apart is not None
    assert apart.seeds == 4
    assert apart.points.value == 2.0
    assert apart.chance == pytest.approx(2 / 16)
    assert difference(results, "a", "c") is None


def test_tuning_sees_no_test_images_and_trains_on_none_that_it_judges() -> None:
    tuned, reported = load_study("smoke", tuning=True), load_study("smoke")
    train = tuned.problem("static").data.train

    def rows(images: torch.Tensor) -> set[bytes]:
        return {bytes(image.flatten().tolist()) for image in images}

    assert len(train) + len(tuned.judged) == len(reported.problem("static").data.train)
    judged = rows(tuned.judged.images)
    assert not judged & rows(reported.judged.images)
    assert len(judged & rows(train.images)) <= 2  # Fashion-MNIST has a few images twice
    assert set(tuned.judged.labels.tolist()) == set(range(10))
