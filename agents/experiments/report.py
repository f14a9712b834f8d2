"""The report of an experiment: Markdown, pictures, and all rows of all runs as CSV."""

import csv
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np

from agents.experiments.figures import (
    Difference,
    accuracy_of,
    accuracy_under,
    by_budget,
    by_method,
    corruptions_of,
    cost_of,
    difference,
    mean_bits,
)
from agents.experiments.judge import (
    DEALT,
    DEALT_GRIDS,
    HIDDEN,
    SEEN,
    UNSEEN,
    UNSEEN_SEVERITIES,
    WRONG,
)
from agents.experiments.result import RunResult, load_results
from dqmq_env.benchmark.plots import CostPoint, plot_accuracy_against_cost, plot_bits_heat_map
from dqmq_env.benchmark.statistics import Interval
from dqmq_env.errors import ResultError
from dqmq_env.files import atomic_write_text
from dqmq_env.training.run_folder import SETTINGS

IMAGE, STATIC = "hybrid, by image", "hybrid, static"


def write_report(run: Path, output: Path) -> str:
    """Write ``report.md``, ``runs.csv``, ``settings.json`` and ``pictures``.

    Args:
        run: folder of an experiment.
        output: folder that gets them.

    Returns:
        A line that says what was written.

    Raises:
        ResultError: there are no results.
    """
    results = load_results(run / "results")
    if not results:
        raise ResultError(f"run: got {run}, which holds no results")
    settings = json.loads((run / SETTINGS).read_text(encoding="utf-8"))
    pictures = output / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    title = f"# Experiment {settings['name']}"
    parts = [title, _lead(settings, results), _picture(results, pictures)]
    for budget, own in by_budget(results).items():
        parts += [
            f"## Budget {100 * budget:g}% of the BOPs at 8 bits",
            _methods(own),
            *_following(own),
            *_bits(own, pictures, budget),
        ]
    parts += ["## What it took", _effort(results), "## How it was made", _made(settings, results)]
    atomic_write_text(output / "report.md", "\n\n".join(part for part in parts if part) + "\n")
    atomic_write_text(output / "runs.csv", _csv(results))
    return f"{output / 'report.md'}: {len(results)} runs"


def _lead(settings: dict[str, object], results: Sequence[RunResult]) -> str:
    seeds = sorted({own.run.seed for own in results})
    split = "held-out training" if settings["tuning"] else "test"
    images = sum(row.images for row in results[0].rows[SEEN])
    return (
        f"{len(results)} runs, seeds {seeds[0]} to {seeds[-1]}. Every method ends with a network "
        f"that was trained on {settings['train_images']:,} images by the same schedule; all are "
        f"judged on the same {images:,} looks at {split} images, each under a condition drawn from "
        "the mixture. Intervals are 95% by Student's t over seeds; differences are paired by seed, "
        "*p* is that of a sign-flip test, not adjusted for the number of comparisons."
    )


def _methods(results: Sequence[RunResult]) -> str:
    """Accuracy, cost, and the hybrid agent's lead over each method."""
    rows = []
    for method, own in by_method(results).items():
        lead = None if method == IMAGE else difference(results, IMAGE, method)
        rows.append(
            [
                method,
                str(len(own)),
                spoken(accuracy_of(own)),
                f"{cost_of(own):.2f}",
                *(_under(own, name) for name in (UNSEEN, UNSEEN_SEVERITIES)),
                _lead_of(lead),
            ]
        )
    heading = [
        "method",
        "seeds",
        "accuracy, %",
        "BOPs, %",
        "held-out corruptions, % at BOPs, %",
        "held-out severities, % at BOPs, %",
        f"{IMAGE}: points above it",
    ]
    return table(heading, rows)


def _following(results: Sequence[RunResult]) -> list[str]:
    """What following the image is worth: by corruption, and where the policy is misled."""
    own = [result for result in results if result.run.method == IMAGE]
    if not own:
        return []
    parts = []
    rows = []
    for corruption in corruptions_of(own):
        number = accuracy_under(corruption)
        gain = difference(results, IMAGE, STATIC, number)
        accuracy = float(np.mean([number(result) for result in own]))
        rows.append([corruption, f"{accuracy:.2f}", _lead_of(gain)])
    parts += [
        f"By corruption, all severities: accuracy of *{IMAGE}*, and its points above *{STATIC}*.",
        table(["corruption", "accuracy, %", "points above static"], rows),
    ]
    known = (DEALT, DEALT_GRIDS, WRONG, HIDDEN)
    probes = [name for name in known if all(name in result.rows for result in own)]
    rows = [[name, _under(own, name)] for name in (SEEN, *probes)]
    parts += [
        "The same networks where the policy is misled: each image gets the bits that the policy "
        "has for another one, or is rounded on the grids that are made for another one; where it "
        "sees the descriptor, that of another image, or the mean.",
        table(["policy", "accuracy, % at BOPs, %"], rows),
    ]
    return parts


def _bits(results: Sequence[RunResult], pictures: Path, budget: float) -> list[str]:
    own = [result for result in results if result.run.method == IMAGE]
    if not own:
        return []
    bits = mean_bits(own)
    columns = np.array(list(bits.values()))[:, 1:-1].T
    name = f"bits-{budget:g}.png"
    plot_bits_heat_map(
        columns,
        [f"layer {number + 2}" for number in range(len(columns))],
        list(bits),
        pictures / name,
        title=f"Mean bits at {100 * budget:g}% of the BOPs, {IMAGE}, over {len(own)} seeds",
    )
    return [f"![bits by layer and condition](pictures/{name})"]


def _picture(results: Sequence[RunResult], pictures: Path) -> str:
    points = []
    for own in by_budget(results).values():
        for method, runs in by_method(own).items():
            found = accuracy_of(runs)
            ends = [found.value if np.isnan(end) else end for end in (found.low, found.high)]
            cost, accuracy, low, high = (own / 100 for own in (cost_of(runs), found.value, *ends))
            points.append(CostPoint("", cost, accuracy, low, high, method))
    plot_accuracy_against_cost(
        points, pictures / "accuracy-against-cost.png", title="Accuracy against BOPs, all methods"
    )
    return "![accuracy against cost](pictures/accuracy-against-cost.png)"


def _effort(results: Sequence[RunResult]) -> str:
    rows = []
    for method, own in by_method(results).items():
        rows.append(
            [
                method,
                *(
                    f"{np.mean([getattr(result, name) for result in own]):,.0f}"
                    for name in ("images_evaluated", "images_trained", "seconds")
                ),
            ]
        )
    text = (
        "Means over runs. Images through a network until the bits, or the rule that gives them, "
        "are final; those trained are on top of the training that all methods share, but for "
        "*hybrid* and *DQNet-style*, whose search is a part of that training. Seconds are those of "
        "search and training on one thread, beside another run."
    )
    heading = ["method", "images evaluated", "images trained", "seconds"]
    return f"{text}\n\n{table(heading, rows)}"


def _made(settings: dict[str, object], results: Sequence[RunResult]) -> str:
    machines = {json.dumps(own.machine, sort_keys=True) for own in results}
    return "\n".join(
        [
            "```json",
            json.dumps(settings, indent=1),
            *sorted(machines),
            "```",
        ]
    )


def _csv(results: Sequence[RunResult]) -> str:
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    heading = ["method", "budget", "seed", "set", "condition", "images", "correct", "cost", "bits"]
    writer.writerow([*heading, "spread", "images_evaluated", "images_trained", "seconds"])
    for own in results:
        effort = (own.images_evaluated, own.images_trained, own.seconds)
        for name, rows in own.rows.items():
            for row in rows:
                numbers = (row.images, row.correct, f"{row.cost:.6f}")
                widths = (" ".join(map(str, row.bits)), " ".join(map(str, row.spread)))
                run = (own.run.method, own.run.budget, own.run.seed)
                writer.writerow([*run, name, row.condition, *numbers, *widths, *effort])
    return stream.getvalue()


def _under(results: Sequence[RunResult], name: str) -> str:
    """Accuracy on a set of images, and its BOPs, where the study has it."""
    if name not in results[0].rows:
        return "-"
    return f"{spoken(accuracy_of(results, name))} at {cost_of(results, name):.2f}"


def spoken(found: Interval) -> str:
    """A mean and half of its interval, in percent."""
    if np.isnan(found.low):
        return f"{found.value:.2f}"
    return f"{found.value:.2f} ±{found.high - found.value:.2f}"


def _lead_of(found: Difference | None) -> str:
    if found is None:
        return "-"
    chance = "" if np.isnan(found.points.low) else f", p = {found.chance:.3f}"
    return f"{signed(found.points)}{chance}"


def signed(points: Interval) -> str:
    """A difference and its interval, where it has one."""
    if np.isnan(points.low):
        return f"{points.value:+.2f}"
    return f"{points.value:+.2f} [{points.low:+.2f}, {points.high:+.2f}]"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)
