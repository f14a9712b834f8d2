"""The tables of a report, as cells that a page can sort and Markdown can print."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dqmq_env.benchmark.report.content import TaskContent
from dqmq_env.benchmark.report.groups import GAPS, NORMALISED, Group, Reach, Verdict
from dqmq_env.benchmark.report.provenance import jobs, sources
from dqmq_env.benchmark.report.runs import Run
from dqmq_env.benchmark.report.summary import Means, by_agent, by_task
from dqmq_env.benchmark.statistics import Interval

NONE = "-"

_ACCURACIES = {
    "accuracy": "search accuracy",
    "test": "test accuracy",
    "tuned": "test accuracy, fine-tuned",
}
_MARKS = (
    ", where evaluations to within 5% and 1% of the optimum's reward are known up to the next mark "
    "of the curves, and stand beside the share of runs that get there and end there."
)


@dataclass(frozen=True)
class Cell:
    """What a table shows at one place.

    Attributes:
        text: as shown.
        order: what the column is sorted by; the text itself where left out.
    """

    text: str
    order: float | None = None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: what it shows, in a sentence.
        heads: one for each column.
        rows: as many cells each.
    """

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def verdict_table(group: Group, found: Sequence[Verdict], reference: str | None) -> Table:
    """The headline: one row for each agent, the best first."""
    against = reference or "reference"
    heads = ["agent", "runs", f"{group.scale.name} [95%]", f"better than {against}", "verdict"]
    known = group.scale is NORMALISED
    heads += [f"evaluations to within {gap:.0%}" for gap in GAPS if known]
    heads += ["images evaluated", "images trained", "seconds"]
    rows = []
    for own in found:
        runs = [run for runs in group.of(own.agent).values() for run in runs]
        compared = own.comparison
        verdict = compared.verdict if compared else NONE
        rows.append(
            (
                Cell(own.agent),
                Cell(str(own.runs), own.runs),
                spread(own.score, group.scale.digits),
                spread(compared.improvement, 2) if compared else Cell(NONE, 0.5),
                Cell("reference" if own.agent == reference else verdict),
                *(_reach(own.reach[gap]) for gap in GAPS if known),
                _median(runs, lambda run: run.result.spent["images_evaluated"]),
                _median(runs, lambda run: run.result.spent["images_trained"]),
                _median(runs, lambda run: run.result.seconds, 1),
            )
        )
    return Table(
        f"{group.scale.title}: interquartile mean over all runs and tasks with its 95% interval; "
        f"probability that a run is better than one of {against}; medians over runs of what the "
        "search took" + (_MARKS if known else "."),
        tuple(heads),
        tuple(rows),
    )


def comparison_table(group: Group, found: Sequence[Verdict], reference: str) -> Table:
    """What the verdicts rest on."""
    heads = ["agent", "mean gain at equal seeds [95%]", "p-value", "p-value, adjusted", "verdict"]
    if group.scale is NORMALISED:
        heads.insert(1, "optimality gap [95%]")
    rows = []
    for own in found:
        row = [Cell(own.agent)]
        if own.gap is not None:
            row.append(spread(own.gap, group.scale.digits))
        compared = own.comparison
        if compared is None or compared.gain is None:
            row += [Cell(NONE, math.inf)] * 4
        else:
            row.append(spread(compared.gain, group.scale.digits, sign="+"))
            row += [_chance(compared.chance), _chance(compared.adjusted), Cell(compared.verdict)]
        rows.append(tuple(row))
    return Table(
        f"{group.scale.title}, against {reference}: mean difference of the scores of runs with "
        "equal seeds; how likely one as large is if both are alike (sign-flip test of the pairs), "
        "and the same adjusted for the number of agents (Holm). Verdicts hold at 5%; one is mixed "
        "where the mean difference and the probability to be better do not speak for the same.",
        tuple(heads),
        tuple(rows),
    )


def task_tables(content: TaskContent) -> tuple[Table, Table]:
    """What each agent came to on a task, over the mixture and under each condition."""
    return (
        _mixture_table(content.task, [*content.means, content.uniform]),
        _condition_table(content.task, content.split, content.accuracies),
    )


def _mixture_table(task: str, rows: Sequence[Means]) -> Table:
    first = rows[0]
    heads = ["agent", "runs", "reward [95%]"]
    heads += ["share of optimum"] * (first.share is not None)
    heads += [f"{_ACCURACIES[name]}, %" for name in first.accuracies]
    heads += [f"{cost_title(name)}, %" for name in first.costs]
    cells = [
        (
            Cell(row.agent),
            Cell(str(row.runs) if row.runs else NONE, row.runs),
            spread(row.reward, 4),
            *([number(100 * row.share.value, 2, "%")] if row.share is not None else []),
            *(number(100 * own.value, 2) for own in row.accuracies.values()),
            *(number(100 * value, 1) for value in row.costs.values()),
        )
        for row in rows
    ]
    caption = (
        f"{task}: interquartile means over runs, each over the mixture of conditions; costs as "
        "percent of those at 8 bits."
    )
    return Table(caption, tuple(heads), tuple(cells))


def _condition_table(
    task: str, split: str, accuracies: Mapping[str, Mapping[str, Interval]]
) -> Table:
    conditions = list(next(iter(accuracies.values())))
    rows = [
        (Cell(agent), *(_percent(own[condition]) for condition in conditions))
        for agent, own in accuracies.items()
    ]
    caption = (
        f"{task}, {_ACCURACIES[split]} under each condition, %: interquartile means over runs with "
        "their 95% intervals."
    )
    return Table(caption, ("agent", *conditions), tuple(rows))


def cost_table(runs: Sequence[Run]) -> Table:
    """What searches took, in sum."""
    heads = ["agent", "task", "runs", "evaluations", "images evaluated", "images trained"]
    rows = []
    for task, group in by_task(runs).items():
        for agent, own in by_agent(group).items():
            spent = [
                sum(run.result.spent[name] for run in own)
                for name in ("evaluations", "images_evaluated", "images_trained")
            ]
            rows.append(
                (
                    Cell(agent),
                    Cell(task),
                    number(len(own)),
                    *(number(count) for count in spent),
                    number(math.fsum(run.result.seconds for run in own), 1),
                )
            )
    return Table(
        "What the searches took, summed over runs; seconds are those of the wall clock.",
        (*heads, "seconds"),
        tuple(rows),
    )


def source_table(runs: Sequence[Run]) -> Table:
    """What made the results."""
    rows = [
        (Cell(own.version), Cell(own.source), Cell(own.machine), number(own.runs))
        for own in sources(runs)
    ]
    heads = ("version", "digest of the source", "machine", "runs")
    return Table("The code and the machines that the results come from.", heads, tuple(rows))


def job_table(runs: Sequence[Run]) -> Table:
    """What was run."""
    rows = [
        (
            Cell(own.agent),
            Cell(own.task),
            Cell(own.kind),
            Cell(own.settings),
            Cell(own.evaluations),
            Cell(own.seeds),
        )
        for own in jobs(runs)
    ]
    heads = ("agent", "task", "class", "settings", "evaluations", "seeds")
    return Table("The jobs: evaluations are what each run may spend.", heads, tuple(rows))


def spread(own: Interval, digits: int, sign: str = "") -> Cell:
    """A number with its interval, where there is one."""
    text = f"{own.value:{sign}.{digits}f}"
    if not math.isnan(own.low):
        text += f" [{own.low:{sign}.{digits}f}, {own.high:{sign}.{digits}f}]"
    return Cell(text, own.value)


def number(value: float, digits: int = 0, unit: str = "") -> Cell:
    """A number, with thousands apart; a dash where it is not known."""
    if math.isnan(value):
        return Cell(NONE, -math.inf)
    return Cell(f"{value:,.{digits}f}{unit}", value)


def cost_title(name: str) -> str:
    """What a cost is called in tables and plots."""
    return "BOPs" if name == "bops" else name


def _percent(own: Interval) -> Cell:
    return spread(Interval(100 * own.value, 100 * own.low, 100 * own.high), 2)


def _median(runs: Sequence[Run], value: Callable[[Run], float], digits: int = 0) -> Cell:
    return number(float(np.median([value(run) for run in runs])), digits)


def _reach(own: Reach) -> Cell:
    """The median, or that there is none, and the share of runs that got there."""
    got = f"({own.share:.0%})"
    if own.median is None:
        return Cell(f"not reached {got}", math.inf)
    return Cell(f"{own.median:,.0f} {got}", own.median)


def _chance(value: float | None) -> Cell:
    if value is None:
        return Cell(NONE, math.inf)
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", value)
