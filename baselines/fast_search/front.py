"""What was found under each budget: as a table, a picture, and files that other programs read."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from baselines.fast_search.judge import Judge, Verdict
from dqmq_env.benchmark.plots import BASELINE_GROUP, CostPoint, plot_accuracy_against_cost
from dqmq_env.costs.cost import REFERENCE_BITS
from dqmq_env.export.bits_file import plain
from dqmq_env.files import atomic_write_text
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.rule import Rule

SCHEMA = "dqmq-front/1"
FOUND = "found"


@dataclass(frozen=True)
class Row:
    """Bits, what they cost, and how they do.

    Attributes:
        name: what the table calls them.
        group: :data:`FOUND`, or ``uniform``.
        budget: bound on the cost, of bits that were searched for.
        bits: an assignment, or one for each condition.
        costs: name to the fraction of that at 8 bits, in the mean over the mixture.
        verdict: on ``search`` images.
    """

    name: str
    group: str
    budget: float | None
    bits: BitAssignment | Rule
    costs: dict[str, float]
    verdict: Verdict

    @property
    def weight_bits(self) -> float:
        """Bits of a weight, in the mean over all weights of the network."""
        return REFERENCE_BITS * self.costs["size"]

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        own, verdict = plain(self.bits), self.verdict
        low, high = verdict.interval
        return {
            "name": self.name,
            "budget": self.budget,
            **{f"cost_{name}": value for name, value in self.costs.items()},
            "weight_bits": self.weight_bits,
            "images": verdict.images,
            "accuracy": verdict.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "lost": verdict.lost,
            "lost_half": verdict.lost_half,
            "bits": own,
        }


@dataclass(frozen=True)
class Front:
    """Rows about one network.

    Attributes:
        title: what they are of.
        cost: name of the cost that budgets are on.
        exact: how the float network does.
        rows: at least one.
    """

    title: str
    cost: str
    exact: Verdict
    rows: Sequence[Row]

    def show(self) -> None:
        """Print the table."""
        table = Table(title=self.title, box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("", no_wrap=True)
        headings = (
            f"{self.cost}, %\nof 8 bits",
            "bits of\na weight",
            "accuracy, %",
            "lost, points",
        )
        for heading in headings:
            table.add_column(heading, justify="right", no_wrap=True, vertical="bottom")
        table.add_row("float", "", "", _percent(self.exact.accuracy, self.exact.half), "")
        for row in self.rows:
            verdict = row.verdict
            table.add_row(
                row.name,
                f"{100 * row.costs[self.cost]:.1f}",
                f"{row.weight_bits:.2f}",
                _percent(verdict.accuracy, verdict.half),
                _percent(verdict.lost, verdict.lost_half),
            )
        Console().print(table)

    def write(self, stem: Path) -> list[Path]:
        """Write ``.csv``, ``.json`` and ``.png``; return their paths.

        Args:
            stem: path without a suffix.
        """
        paths = [stem.with_name(stem.name + suffix) for suffix in (".csv", ".json", ".png")]
        rows = [row.to_dict() for row in self.rows]
        text = StringIO()
        columns = [name for name in rows[0] if name != "bits"]
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic_write_text(paths[0], text.getvalue())
        data = {
            "schema": SCHEMA,
            "cost": self.cost,
            "float_accuracy": self.exact.accuracy,
            "rows": rows,
        }
        atomic_write_text(paths[1], json.dumps(data, indent=1) + "\n")
        points = [
            CostPoint(
                row.name,
                row.costs[self.cost],
                row.verdict.accuracy,
                *row.verdict.interval,
                row.group,
            )
            for row in self.rows
        ]
        title = f"{self.title}; float {100 * self.exact.accuracy:.1f}%"
        plot_accuracy_against_cost(points, paths[2], title=title, cost=self.cost)
        return paths


def uniform_row(problem: NetworkProblem, judge: Judge, width: int) -> Row:
    """The same width for all layers that leave a choice."""
    bits = problem.uniform(width)
    return Row(f"uniform {width}", BASELINE_GROUP, None, bits, problem.cost(bits), judge(bits))


def found_row(
    problem: NetworkProblem, judge: Judge, budget: float, bits: BitAssignment | Rule
) -> Row:
    """What was found under a budget."""
    costs = _costs(problem, bits)
    return Row(f"{FOUND} at {budget:g}", FOUND, budget, bits, costs, judge(bits))


def _costs(problem: NetworkProblem, bits: BitAssignment | Rule) -> dict[str, float]:
    if isinstance(bits, BitAssignment):
        return problem.cost(bits)
    mixture = problem.mixture
    shares = list(zip(mixture.conditions, mixture.probabilities, strict=True))
    each = {condition: problem.cost(bits[condition]) for condition in mixture.conditions}
    return {
        cost.name: sum(share * each[condition][cost.name] for condition, share in shares)
        for cost in problem.costs
    }


def _percent(value: float, half: float) -> str:
    return f"{100 * value:.1f} ± {100 * half:.1f}"
