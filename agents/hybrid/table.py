"""Evaluations side by side, on the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from dqmq_env.evaluation.report import Evaluation


def print_table(evaluations: Sequence[Evaluation]) -> None:
    """Print accuracy and BOPs per condition, a column for each network."""
    table = Table(title="test split: accuracy, and BOPs as a share of those at 8 bits")
    table.add_column("condition")
    for evaluation in evaluations:
        table.add_column(evaluation.name, justify="right")
    for number, row in enumerate(evaluations[0].rows):
        cells = [_cell(e.rows[number].accuracy, e.rows[number].cost) for e in evaluations]
        table.add_row(row.condition, *cells)
    table.add_section()
    table.add_row("mean", *(_cell(e.accuracy, e.cost) for e in evaluations), style="bold")
    intervals = [e.interval() for e in evaluations]
    table.add_row("95% interval", *(f"{100 * low:.1f}-{100 * high:.1f}" for low, high in intervals))
    Console().print(table)


def _cell(accuracy: float, cost: float) -> str:
    return f"{100 * accuracy:.1f}% @ {100 * cost:.1f}%"
