"""Evaluations side by side, on the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from dqmq_env.evaluation.report import Evaluation


def print_table(evaluations: Sequence[Evaluation]) -> None:
    """Print accuracy per condition, a column for each network, and BOPs where they differ.

    BOPs are shares of those at 8 bits, in percent; a network whose BOPs are the same under each
    condition has them in its heading, behind "at".
    """
    table = Table(
        title="test split: accuracy in percent; BOPs in percent of those at 8 bits",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("condition", no_wrap=True)
    for evaluation in evaluations:
        name = evaluation.name.replace("-", "\n")
        headings = [f"{name}\nat {100 * evaluation.cost:.1f}"]
        if _follows(evaluation):
            headings = [f"{name}\naccuracy", f"{name}\nBOPs"]
        for heading in headings:
            table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
    for number, row in enumerate(evaluations[0].rows):
        pairs = [(e, e.rows[number].accuracy, e.rows[number].cost) for e in evaluations]
        table.add_row(row.condition, *_cells(pairs))
    table.add_section()
    table.add_row("mean", *_cells([(e, e.accuracy, e.cost) for e in evaluations]), style="bold")
    margins = []
    for evaluation in evaluations:
        low, high = evaluation.interval
        margins.append(f"±{50 * (high - low):.1f}")
        if _follows(evaluation):
            margins.append("")
    table.add_row("95% interval", *margins)
    Console().print(table)


def _follows(evaluation: Evaluation) -> bool:
    """Whether the network's cost moves with the condition."""
    return len({row.cost for row in evaluation.rows}) > 1


def _cells(values: Sequence[tuple[Evaluation, float, float]]) -> list[str]:
    cells = []
    for evaluation, accuracy, cost in values:
        cells.append(f"{100 * accuracy:.1f}")
        if _follows(evaluation):
            cells.append(f"{100 * cost:.1f}")
    return cells
