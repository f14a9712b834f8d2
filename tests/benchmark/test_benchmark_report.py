import csv
import io
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqmq_env.benchmark.job import Job, Result
from dqmq_env.benchmark.report.command import ReportArguments, write_report
from dqmq_env.benchmark.report.content import Content, Effort, build
from dqmq_env.benchmark.report.groups import NORMALISED, POINTS, groups_of, verdicts
from dqmq_env.benchmark.report.panels import MIXTURE, panels
from dqmq_env.benchmark.report.runs import Runs, agent_names, read_runs, task_names
from dqmq_env.benchmark.report.summary import (
    UNIFORM,
    bits_maps,
    condition_accuracies,
    learning_curves,
)
from dqmq_env.cli import main
from dqmq_env.errors import ResultError, SettingError
from tests.benchmark.made_results import (
    CONDITIONS,
    HOSTILE,
    LAYERS,
    LIVE,
    SEEDS,
    TABULAR,
    all_made,
    made,
    with_reward,
    write,
)

QUICK = {"resamples": 200, "profile_resamples": 100}
FILES = {"report.html", "report.md", "runs.csv", "curves.csv", "pictures"}
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return all_made()


@pytest.fixture(scope="module")
def run(results: list[Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("runs") / "made up", results)


@pytest.fixture(scope="module")
def report(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("report")
    return write_report(ReportArguments((run,), output, **QUICK))


@pytest.fixture(scope="module")
def content(run: Path) -> Content:
    return build(read_runs([run]), effort=Effort(200, 100))


def read(tmp_path: Path, results: list[Result]) -> Runs:
    return read_runs([write(tmp_path / "run", results)])


def warned(tmp_path: Path, results: list[Result]) -> str:
    return "\n".join(build(read(tmp_path, results), effort=Effort(100, 100)).warnings)


class Page(HTMLParser):
    """What a page would load, its tables, and the texts of its elements by their ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.texts: dict[str, str] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        self._open = own.get("id", "")
        self.ids += [own["id"]] if "id" in own else []
        self.loads += [own[name] for name in ("src", "srcset", "data", "poster") if name in own]
        self.loads += [own["href"]] if tag == "link" else []

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open] = self.texts.get(self._open, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def figures(report: Path) -> dict[str, dict[str, Any]]:
    page = Page((report / "report.html").read_text())
    found: dict[str, dict[str, Any]] = json.loads(page.texts["plots"])
    return found


def rows(report: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((report / name).read_text())))


# files


def test_all_files_are_written(report: Path) -> None:
    assert {path.name for path in report.iterdir()} == FILES


def test_runs_csv_has_every_number(report: Path, results: list[Result]) -> None:
    found = {(row["key"], row["condition"]): row for row in rows(report, "runs.csv")}
    assert len(found) == len(results) * len(CONDITIONS)
    for result in results:
        for score, uniform in zip(result.scores, result.uniform, strict=True):
            row = found[result.job.key, score.condition]
            for name in ("share", "reward", "accuracy", "test"):
                assert float(row[name]) == getattr(score, name)
            for name, value in (("optimum", score.optimum), ("tuned", score.tuned)):
                assert row[name] == ("" if value is None else repr(value))
            assert float(row["cost_bops"]) == score.costs["bops"]
            assert float(row["uniform_reward"]) == uniform.reward
            assert float(row["uniform_cost_size"]) == uniform.costs["size"]
            assert float(row["seconds"]) == result.seconds
            assert int(row["seed"]) == result.job.seed
            assert int(row["spent_images_trained"]) == 7
            assert row["agent"] == result.job.label


def test_curves_csv_has_every_point(report: Path, results: list[Result]) -> None:
    found = [
        (row["key"], int(row["at"]), float(row["reward"])) for row in rows(report, "curves.csv")
    ]
    expected = [(own.job.key, at, reward) for own in results for at, reward in own.curve]
    assert sorted(found) == sorted(expected)


def test_markdown_shows_pictures_that_are_there(report: Path) -> None:
    text = (report / "report.md").read_text()
    shown = re.findall(r"\]\((pictures/[^)]+)\)", text)
    assert sorted(shown) == sorted(f"pictures/{p.name}" for p in (report / "pictures").iterdir())
    kinds = Counter(name.removeprefix("pictures/").partition("-")[0] for name in shown)
    assert kinds == {"curves": 2, "profiles": 2, "accuracy": 3, "bits": 3}
    assert all((report / name).read_bytes().startswith(b"\x89PNG") for name in shown)


def test_markdown_tables_have_as_many_cells_as_heads(report: Path) -> None:
    text = (report / "report.md").read_text()
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) >= 9
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    assert "<b>" not in text.replace("\\<b>", "")


# the page


def test_the_page_loads_nothing(report: Path) -> None:
    text = (report / "report.html").read_text()
    page = Page(text)
    assert page.loads == []
    assert page.tags["iframe"] == page.tags["link"] == 0
    style = page_style(text)
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in text[:600]


def page_style(text: str) -> str:
    (found,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    return str(found)


def test_every_section_is_in_the_contents(report: Path) -> None:
    text = (report / "report.html").read_text()
    links = re.findall(r'<li><a href="#([a-z]+)">', text)
    page = Page(text)
    assert len(links) == 8
    assert set(links) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert page.tags["figcaption"] == page.tags["figure"] == 6
    assert page.tags["caption"] == page.tags["table"]


def test_names_cannot_become_markup(report: Path) -> None:
    text = (report / "report.html").read_text()
    assert HOSTILE not in text
    assert escape(HOSTILE) in text
    names = {trace["name"] for trace in figures(report)["profiles-live"][""]["data"]}
    assert escape(HOSTILE) in names


def test_figures_are_what_plotly_takes(report: Path) -> None:
    from plotly.graph_objects import Figure

    found = figures(report)
    assert {name: len(own) for name, own in found.items()} == {
        "curves-dqmq-resnet8-tabular-v0": 2,
        "curves-dqmq-resnet20-v0": 1,
        "profiles-known-optimum": 1,
        "profiles-live": 1,
        "accuracy": 3,
        "bits": 3 + 2 * 3,
    }
    for own in found.values():
        for figure in own.values():
            Figure(figure)  # raises where a name or value is none of plotly.js


def test_an_agent_looks_the_same_everywhere(report: Path) -> None:
    looks: dict[str, set[tuple[str, str]]] = {}
    for name, own in figures(report).items():
        for figure in own.values():
            for trace in figure["data"] if name != "bits" else ():
                if "marker" in trace:
                    mark = trace["marker"]
                    looks.setdefault(trace["name"], set()).add((mark["color"], mark["symbol"]))
    assert looks.keys() == {"uniform bits", "hybrid", "random", escape(HOSTILE)}
    assert {len(found) for found in looks.values()} == {1}
    assert len(set.union(*looks.values())) == len(looks)


PROBE = """
<script>
const heads = document.querySelectorAll("table thead th button");
heads[2].click();
const bits = document.querySelector("[data-plot=bits]");
const shades = () => JSON.stringify(document.getElementById("plot-bits").data[0].z);
const [task, agent, shown] = bits.querySelectorAll("select");
const pick = (select, value) => {
  select.value = value;
  select.dispatchEvent(new Event("change"));
  return shades();
};
const seen = { shades: [shades(), pick(agent, "1"), pick(shown, "1"), pick(task, "1")] };
seen.shown = shown.selectedOptions[0].textContent;
seen.sort = heads[2].parentElement.getAttribute("aria-sort");
const rows = document.querySelector("table").tBodies[0].rows;
seen.order = [...rows].map((row) => row.cells[0].textContent);
seen.traces = Object.fromEntries([...document.querySelectorAll(".plot")]
  .map((plot) => [plot.id, (plot.data || []).length]));
const out = document.createElement("p");
out.id = "probe"; out.textContent = JSON.stringify(seen); document.body.append(out);
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium to open the page with")
def test_a_browser_draws_every_plot(report: Path, tmp_path: Path) -> None:
    text = (report / "report.html").read_text()
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", f"{PROBE}</body>"))
    words = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    words += " --disable-background-networking --disable-component-update --enable-logging=stderr"
    words += f" --virtual-time-budget=10000 --user-data-dir={tmp_path / 'profile'} --dump-dom"
    shown = subprocess.run(
        [str(CHROMIUM), *words.split(), page.as_uri()],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    console = [line for line in shown.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    drawn = Page(shown.stdout)
    seen = json.loads(drawn.texts["probe"])
    assert seen["sort"] == "ascending"
    assert seen["order"][-1].endswith("hybrid")
    assert len(set(seen["shades"])) == 4
    assert seen["shown"] == "bits"  # the tabular task does not tell weights from activations
    traces = seen["traces"]
    assert set(traces) == {f"plot-{name}" for name in figures(report)}
    assert all(count > 0 for count in traces.values())
    # plotly.js draws two of them for each plot: below and above
    assert shown.stdout.count('class="main-svg"') >= 2 * len(traces)
    assert shown.stdout.count("scatterlayer") >= 5


# what it says


def test_scores_are_normalised_between_uniform_bits_and_the_optimum(tmp_path: Path) -> None:
    found = [
        with_reward(made("random", TABULAR, seed), reward)
        for seed, reward in enumerate((0.8, 0.85, 0.9, 0.75))
    ]
    (group,) = groups_of(read(tmp_path, found).runs)
    assert group.scale is NORMALISED
    assert [group.score(run) for run in group.runs] == pytest.approx([0, 0.5, 1, -0.5])


def test_live_scores_are_points_over_uniform_bits(tmp_path: Path) -> None:
    own = made("hybrid", LIVE, 0)
    (group,) = groups_of(read(tmp_path, [own]).runs)
    (run,) = group.runs
    assert group.scale is POINTS
    gained = np.mean([a.tuned - b.tuned for a, b in zip(own.scores, own.uniform, strict=True)])  # type: ignore[operator]
    assert group.score(run) == pytest.approx(100 * gained)
    # with uniform bits that were not fine-tuned, it is about the network as the search saw it
    plain = replace(own, uniform=[replace(score, tuned=None, test=0.5) for score in own.uniform])
    (group,) = groups_of(read(tmp_path / "plain", [plain]).runs)
    tested = np.mean([score.test for score in own.scores])
    assert group.score(group.runs[0]) == pytest.approx(100 * (tested - 0.5))


def test_a_task_without_room_above_uniform_bits_is_not_normalised(tmp_path: Path) -> None:
    own = made("random", TABULAR, 0)
    tight = replace(own, uniform=[replace(score, reward=0.9) for score in own.uniform])
    (group,) = groups_of(read(tmp_path, [tight]).runs)
    assert group.scale is POINTS


def test_verdicts_name_the_better_agent(content: Content) -> None:
    known = next(own for own in content.groups if own.group.scale is NORMALISED)
    assert content.reference == "random"
    assert [own.agent for own in known.verdicts] == ["hybrid", HOSTILE, "random"]
    best, _, last = known.verdicts
    assert last.comparison is None
    assert best.comparison is not None
    assert best.comparison.improvement.value == 1
    assert best.comparison.chance == 2 / 2**5
    # five pairs cannot convince, however clear they are: 2 of 32 ways to give signs, for two agents
    assert best.comparison.adjusted == 4 / 2**5
    assert best.comparison.verdict == "unclear"
    assert best.gap is not None
    assert best.gap.value == pytest.approx(1 - best.score.value, abs=0.02)


def test_ten_pairs_convince(tmp_path: Path) -> None:
    runs = read(
        tmp_path, [made(name, TABULAR, seed) for name in ("random", "hybrid") for seed in range(10)]
    )
    (group,) = groups_of(runs.runs)
    best = verdicts(group, "random", 200)[0]
    assert best.agent == "hybrid"
    assert best.comparison is not None
    assert best.comparison.verdict == "better"
    turned = verdicts(group, "hybrid", 200)[1]
    assert turned.comparison is not None
    assert turned.comparison.verdict == "worse"


def test_what_is_gained_here_and_lost_there_is_mixed(tmp_path: Path) -> None:
    found = []
    for seed in range(10):
        for task, reward in ({}, 0.81), ({"budget": 0.5}, 0.7):
            base = made("random", TABULAR, seed, env=task)
            own = made("hybrid", TABULAR, seed, env=task)
            found += [with_reward(base, 0.8), with_reward(own, reward)]
    (group,) = groups_of(read(tmp_path, found).runs)
    comparison = next(own for own in verdicts(group, "random", 200) if own.comparison).comparison
    assert comparison is not None
    assert comparison.improvement.value == 0.5
    assert comparison.verdict == "mixed"


def test_seeds_that_differ_cannot_be_paired(tmp_path: Path) -> None:
    found = [made("random", TABULAR, seed) for seed in range(3)]
    found += [made("hybrid", TABULAR, seed) for seed in range(7, 10)]
    (group,) = groups_of(read(tmp_path, found).runs)
    comparison = verdicts(group, "random", 200)[0].comparison
    assert comparison is not None
    assert comparison.gain is None
    assert comparison.verdict == "no common seeds"
    assert comparison.improvement.value == 1


def test_runs_that_never_come_near_are_counted_as_such(tmp_path: Path) -> None:
    """Two of three come within 5%, one of three within 1%; the optimum is 0.9."""
    ends = ((0.7, 0.88), (0.86, 0.895), (0.7, 0.8))
    found = [
        replace(with_reward(made("random", TABULAR, seed), last), curve=[(10, first), (40, last)])
        for seed, (first, last) in enumerate(ends)
    ]
    (group,) = groups_of(read(tmp_path, found).runs)
    reach = verdicts(group, None, 200)[0].reach
    assert (reach[0.05].share, reach[0.05].median) == (pytest.approx(2 / 3), 40)
    assert (reach[0.01].share, reach[0.01].median) == (pytest.approx(1 / 3), None)


def test_a_run_that_ends_below_what_it_tried_has_not_got_there(tmp_path: Path) -> None:
    found = replace(with_reward(made("random", TABULAR, 0), 0.8), curve=[(10, 0.899)])
    (run,) = read(tmp_path, [found]).runs
    assert run.evaluations_within(0.05) is None


def test_a_search_without_evaluations_is_there_at_once(tmp_path: Path) -> None:
    (run,) = read(tmp_path, [with_reward(made(HOSTILE, TABULAR, 0), 0.9)]).runs
    assert run.evaluations_within(0.01) == 0
    curve = learning_curves([run], 100)[HOSTILE]
    assert curve.evaluations.tolist() == [1]
    assert curve.band.value.tolist() == pytest.approx([1.0])


def test_curves_begin_where_every_run_has_a_value(tmp_path: Path) -> None:
    first = replace(made("random", TABULAR, 0), curve=[(9, 0.45), (100, 0.9)])
    second = replace(made("random", TABULAR, 1), curve=[(20, 0.9), (1000, 0.9)])
    runs = read(tmp_path, [first, second]).runs
    curve = learning_curves(runs, 100)["random"]
    assert curve.evaluations.tolist() == [20, 100, 1000]
    assert curve.band.value.tolist() == pytest.approx([0.75, 1.0, 1.0])


def test_panels_have_all_runs_and_their_front(content: Content) -> None:
    runs = next(own for own in content.tasks if own.task == TABULAR).runs
    found = panels(runs, "test", "bops")
    assert [panel.condition for panel in found] == [MIXTURE, *CONDITIONS]
    for panel in found:
        assert len(panel.points) == len(runs)
        best = [
            point
            for point in panel.points
            if not any(
                other.cost <= point.cost
                and other.accuracy >= point.accuracy
                and (other.cost, other.accuracy) != (point.cost, point.accuracy)
                for other in panel.points
            )
        ]
        assert sorted(best, key=lambda point: point.cost) == list(panel.front)


def test_bits_are_means_over_runs(content: Content) -> None:
    tabular, live = (
        [
            run
            for own in content.tasks
            for run in own.runs
            if own.task == task and run.agent == "hybrid"
        ]
        for task in (TABULAR, LIVE)
    )
    (found,) = bits_maps(tabular).values()
    assert found.layers == LAYERS
    expected = np.mean([run.result.rule["jpeg/3"]["layer2"][0] for run in tabular])
    assert found.bits[2, CONDITIONS.index("jpeg/3")] == pytest.approx(expected)
    apart = bits_maps(live)
    assert list(apart) == ["bits of weights", "bits of activations"]
    expected = np.mean([run.result.rule["clean"]["fc"][1] for run in live])
    assert apart["bits of activations"].bits[3, 0] == pytest.approx(expected)


def test_accuracy_per_condition_is_beside_that_of_uniform_bits(run: Path) -> None:
    runs = [own for own in read_runs([run]).runs if own.result.job.id == LIVE]
    split, found = condition_accuracies(runs, 100)
    assert split == "tuned"
    assert next(iter(found)) == "hybrid"
    assert list(found)[-1] == UNIFORM
    for agent, own in found.items():
        assert list(own) == list(CONDITIONS)
        for place, condition in enumerate(CONDITIONS):
            expected = sorted(
                result.scores[place].tuned or 0
                for result in (run.result for run in runs)
                if result.job.label == agent
            )
            if agent != UNIFORM:
                # of five, the lowest and the highest are cut off
                assert own[condition].value == pytest.approx(np.mean(expected[1:4]))
                assert own[condition].low <= own[condition].value <= own[condition].high
            else:
                assert own[condition].value == runs[0].result.uniform[place].tuned


# names and warnings


def test_agents_are_named_by_their_labels_or_classes() -> None:
    plain = made("hybrid", TABULAR, 0, label="").job
    assert agent_names([plain]) == {plain.key: "HybridSearch"}
    other = made("hybrid", TABULAR, 0, label="", settings={"width": 8}).job
    assert agent_names([plain, other]) == {
        plain.key: "HybridSearch (as it is)",
        other.key: "HybridSearch (width=8)",
    }
    # settings that follow the task do not make another agent
    elsewhere = made("hybrid", LIVE, 0, label="", settings={"width": 8}).job
    assert set(agent_names([plain, elsewhere]).values()) == {"HybridSearch"}


def test_tasks_are_named_by_what_sets_them_apart() -> None:
    def job(task: str, **env: Any) -> Job:
        return made("hybrid", task, 0, env=env).job

    alone = job(LIVE, budget=0.2, cost="size")
    assert task_names([alone]) == {alone.task: LIVE}
    other = job(LIVE, budget=0.3, cost="size")
    plain = job(LIVE, cost="size")
    tabular = job(TABULAR, budget=0.2)
    assert task_names([alone, other, plain, tabular]) == {
        alone.task: f"{LIVE} (budget=0.2)",
        other.task: f"{LIVE} (budget=0.3)",
        plain.task: LIVE,
        tabular.task: TABULAR,
    }


def test_few_seeds_are_warned_of(tmp_path: Path) -> None:
    assert "Few seeds: random has 9 seeds" in warned(
        tmp_path, [made("random", TABULAR, s) for s in range(9)]
    )
    assert warned(tmp_path / "more", [made("random", TABULAR, s) for s in range(10)]) == ""


def test_sources_are_mixed_within_a_package_alone(tmp_path: Path) -> None:
    found = [made(name, TABULAR, seed) for name in ("random", "hybrid") for seed in range(10)]
    assert warned(tmp_path / "apart", found) == ""
    mixed = [replace(found[0], source="2c" * 32), *found[1:]]
    assert "2 states of the source code of baselines are mixed" in warned(tmp_path / "mixed", mixed)
    older = made("random", TABULAR, 0, version="0.0.9")
    assert "2 versions of the package are mixed" in warned(tmp_path / "old", [older, *found[1:]])


def test_missing_tasks_and_references_are_warned_of(tmp_path: Path) -> None:
    found = [made("hybrid", TABULAR, seed) for seed in range(10)]
    assert "no runs of random search" in warned(tmp_path / "alone", found)
    found += [made("random", TABULAR, seed) for seed in range(10)]
    found += [made("random", TABULAR, seed, env={"budget": 0.3}) for seed in range(10)]
    text = warned(tmp_path / "fewer", found)
    assert "hybrid lacks 1 of 2 tasks" in text


def test_other_numbers_of_evaluations_are_warned_of(tmp_path: Path) -> None:
    found = [made("random", TABULAR, seed) for seed in range(10)]
    job = replace(found[0].job, evaluations=50)
    text = warned(tmp_path, [replace(found[0], job=job), *found[1:]])
    assert "different numbers of evaluations: 50, 1,000" in text


def test_an_unfinished_suite_is_warned_of(tmp_path: Path) -> None:
    suite = {
        "name": "made up",
        "evaluations": 1000,
        "seeds": list(range(12)),
        "tasks": [{"id": TABULAR}],
        "agents": [{"agent": "baselines.random_search:RandomSearch", "label": "random"}],
    }
    folder = write(tmp_path / "run", [made("random", TABULAR, seed) for seed in range(10)])
    (folder / "suite.json").write_text(json.dumps({"suite": suite}))
    (folder / "failures").mkdir()
    (folder / "failures" / f"{made('random', TABULAR, 11).job.key}.json").write_text("{}")
    (warning,) = build(read_runs([folder]), effort=Effort(100, 100)).warnings
    assert warning.startswith("2 of 12 jobs of run have no result, 1 of them failed")


# errors


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"seconds": float("nan")}, "finite"),
        ({"seconds": "long"}, "must be a number"),
        ({"curve": [(20, 0.1), (10, 0.2)]}, "ascend"),
        ({"uniform": []}, "uniform"),
        ({"spent": {"evaluations": 1}}, "images_evaluated"),
        ({"rule": {}}, "clean"),
        ({"scores": []}, "conditions"),
    ],
)
def test_results_that_make_no_sense_are_damaged(
    change: dict[str, Any], part: str, tmp_path: Path
) -> None:
    wrong = replace(made("random", TABULAR, 0), **change)
    found = read(tmp_path, [wrong, made("random", TABULAR, 1)])
    assert len(found.runs) == 1
    (line,) = found.damaged
    assert part in line


def _foreign(folder: Path) -> None:
    path = next((folder / "results").iterdir())
    path.write_text(path.read_text().replace("dqmq-result/1", "dqmq-result/9"))


def _without_results(folder: Path) -> None:
    shutil.rmtree(folder / "results")


def _all_damaged(folder: Path) -> None:
    for path in (folder / "results").iterdir():
        path.write_text("")


def _without_folder(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("spoil", "words", "part"),
    [
        (_foreign, [], "has schema 'dqmq-result/9', this version reads 'dqmq-result/1'"),
        (_without_results, [], "no results/*.json"),
        (_all_damaged, [], "holds no result that can be read"),
        (_without_folder, [], "there is no folder"),
        (lambda _: None, ["--reference", "bogus"], "got 'bogus', allowed are"),
        (lambda _: None, ["--resamples", "3"], "got 3 resamples"),
        (lambda folder: (folder / "report").write_text(""), [], "cannot be written"),
    ],
)
def test_what_cannot_be_reported_is_one_line(
    spoil: Callable[[Path], object],
    words: list[str],
    part: str,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write(tmp_path / "run", [made("random", TABULAR, seed) for seed in range(2)])
    spoil(folder)
    with pytest.raises(SystemExit) as stop:
        main(["report", str(folder), *words])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert part in lines[0]
    assert not (folder / "report").is_dir()


def test_tasks_of_the_same_name_must_have_the_same_layers(tmp_path: Path) -> None:
    one, other = made("random", TABULAR, 0), made("random", TABULAR, 1)
    rule = {condition: {"conv1": [8, 8]} for condition in CONDITIONS}
    with pytest.raises(ResultError, match="different conditions or layers"):
        read(tmp_path, [one, replace(other, rule=rule)])


def _small(folder: Path, turned: bool = False) -> list[str]:
    """Two folders that share a result, and one of them with a damaged one, as words."""
    found = [made("random", TABULAR, seed) for seed in SEEDS]
    one = write(folder / "one", reversed(found) if turned else found)
    (one / "results" / "0.json").write_text("{ not json")
    two = write(folder / "two", [made("hybrid", TABULAR, 0), found[0]])
    quick = ["--resamples", "100", "--profile-resamples", "100"]
    return ["report", str(one), str(two), "--reference", "hybrid", *quick]


def test_the_command_reports_on_several_folders_and_names_what_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = tmp_path / "out" / "report", tmp_path / "elsewhere" / "one" / "report"
    main([*_small(tmp_path), "--output", str(first)])
    told = capsys.readouterr()
    assert str(first) in told.out
    (line,) = told.err.splitlines()
    assert line.startswith("left out, as it is damaged: one/results/0.json: ")
    assert {path.name for path in first.iterdir()} == FILES
    assert len(rows(first, "runs.csv")) == 6 * len(CONDITIONS)
    assert 'dqmq report one two --reference "hybrid"' in (first / "report.md").read_text()
    for name in ("report.html", "report.md"):
        assert "one/results/0.json" in (first / name).read_text()

    main(_small(tmp_path / "elsewhere", turned=True))
    names = [path.relative_to(first) for path in first.rglob("*") if path.is_file()]
    assert len(names) == 8
    assert [n for n in names if (again / n).read_bytes() != (first / n).read_bytes()] == []


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["report", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "Examples" in shown
    assert "--reference" in shown


def test_effort_has_a_floor() -> None:
    with pytest.raises(SettingError, match="profiles: got 99 resamples, allowed from 100"):
        Effort(profiles=99)
