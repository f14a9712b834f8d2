"""The demonstration, on few images."""

import json
from queue import Queue

import pytest

from agents.hybrid.demo import DemoArguments, Job, jobs_of, main, run_job
from dqmq_env.evaluation.report import Evaluation


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> DemoArguments:
    folder = tmp_path_factory.mktemp("demo") / "run"
    return DemoArguments(folder, images=128, test_images=10, processes=1)


@pytest.fixture(scope="module")
def jobs(arguments: DemoArguments) -> list[Job]:
    """All networks judged, two of them trained, which the others take their figures from."""
    found = jobs_of(arguments)
    follows, *others, uniform = found
    for job in (follows, uniform):
        ticks: Queue[int] = Queue()
        run_job(job, ticks)
        assert sum(ticks.queue) == job.units
    text = (uniform.folder / "evaluation.json").read_text(encoding="utf-8")
    for job in others:
        job.folder.mkdir()
        (job.folder / "evaluation.json").write_text(text, encoding="utf-8")
    return found


def test_every_network_is_judged_under_nine_conditions(jobs: list[Job]) -> None:
    names = [job.name for job in jobs]
    assert names == ["by-image", "by-layer", "static", "uniform-2", "uniform-1"]
    follows, uniform = (Evaluation.load(jobs[n].folder / "evaluation.json") for n in (0, -1))
    for evaluation in (follows, uniform):
        assert len(evaluation.rows) == 9
        assert {row.images for row in evaluation.rows} == {10}
    assert 0.06 < follows.cost < 0.08
    assert {row.cost for row in uniform.rows} == {uniform.cost}
    assert {width for row in uniform.rows for width in row.bits} == {1, 8}
    assert (jobs[0].folder / "agent.dqmq").is_file()


def test_it_draws_and_says_what_came_of_it_and_goes_on_where_it_was(
    arguments: DemoArguments, jobs: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    written = [(job.folder / "evaluation.json").stat().st_mtime_ns for job in jobs]
    words = ["--run", str(arguments.run), "--images", "128", "--test-images", "10"]
    main([*words, "--processes", "1"])
    said = capsys.readouterr().out
    assert written == [(job.folder / "evaluation.json").stat().st_mtime_ns for job in jobs]
    for job in (jobs[0], jobs[2]):
        own = Evaluation.load(job.folder / "evaluation.json")
        assert f"{100 * own.accuracy:.1f}% right at {100 * own.cost:.2f}% of the BOPs" in said
    assert all(row.condition in said for row in own.rows)
    for name in ("bits-by-image.png", "bits-by-layer.png", "accuracy-against-cost.png"):
        assert (arguments.run / name).read_bytes().startswith(b"\x89PNG")
        assert str(arguments.run / name) in said

    settings = json.loads((arguments.run / "settings.json").read_text(encoding="utf-8"))
    assert settings["images"] == 128
    with pytest.raises(SystemExit):
        main([*words, "--seed", "1"])
    assert "holds a run with other settings (seed)" in capsys.readouterr().err
