"""What the tabular twin knows: optima, fronts, the value of quality, the regret of random search.

``python -m dqmq_env.benchmark.tabular`` writes ``benchmarks/TABULAR.md`` and the pictures
``docs/images/tabular-*.png`` in a few seconds: everything is looked up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray

from dqmq_env.benchmark.curves import RegretCurve, plot_fronts, plot_regret, plot_value
from dqmq_env.benchmark.quality_study import BLIND, Study, study, table_of
from dqmq_env.files import atomic_write_text
from dqmq_env.problem.estimates import half_width
from dqmq_env.problem.quality_value import CRITERIA
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_answers import answers_of
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.program import one_line_errors
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.task.task import Task

_EVALUATIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class TabularArguments:
    """Which table, and where the report goes.

    Attributes:
        table: name of a shipped table.
        budgets: on the average BOPs, as fractions of those at 8 bits.
        output: the Markdown file.
        pictures: their folder.
    """

    table: str = "resnet8-fashion-mnist"
    budgets: tuple[float, ...] = (0.1, 0.12, 0.14, 0.17, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7)
    output: Path = Path("benchmarks/TABULAR.md")
    pictures: Path = Path("docs/images")


def regret_curve(problem: TableProblem, task: Task, evaluations: Sequence[int]) -> RegretCurve:
    """The regret of the best of some random assignments: median and middle half, exactly.

    Over the draw of assignments, with replacement, and of a condition of the mixture.

    Args:
        problem: the table.
        task: what regret is about.
        evaluations: numbers of assignments drawn.
    """
    probabilities = np.array(problem.mixture.probabilities)
    regrets = np.stack([problem.regrets(c, task) for c in problem.mixture.conditions])
    regrets.sort(1)
    steps = np.unique(regrets[np.isfinite(regrets)])
    # the share of assignments with at least that regret, and thus the chance that all drawn have
    worse = np.stack([1 - np.searchsorted(row, steps, "right") / len(row) for row in regrets])
    found = np.array([_quantiles(probabilities @ worse**count, steps) for count in evaluations])
    low, median, high = found.T
    return RegretCurve(list(evaluations), median.tolist(), low.tolist(), high.tolist())


def _quantiles(chance: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quartiles of a number that exceeds each of some ascending steps with that chance."""
    return np.array([steps[int((chance <= 1 - q).argmax())] for q in (0.25, 0.5, 0.75)])


def optima(problem: TableProblem, task: Task) -> list[str]:
    """The optimum of each condition as lines of a Markdown table."""
    decided = [name for name, widths in problem.candidates.items() if len(widths) > 1]
    heads = ["condition", *decided, "BOPs", "search", "test", "reward"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for condition in problem.mixture.conditions:
        best = problem.optimum(condition, task)
        test = problem.evaluate(best.assignment, condition, "test").accuracy[0]
        cells = [str(condition), *(str(best.assignment[name].weight) for name in decided)]
        cells += [f"{100 * value:.1f}%" for value in (best.costs["bops"], best.accuracy, test)]
        lines.append(f"| {' | '.join([*cells, f'{best.reward:.4f}'])} |")
    return lines


def uniform(problem: TableProblem) -> list[str]:
    """Accuracy at uniform bits as lines of a Markdown table, in the mean over the mixture."""
    decided = [name for name, widths in problem.candidates.items() if len(widths) > 1]
    answers = answers_of(problem, "bops")
    lines = ["| bits | BOPs | search | test |", "|---|---|---|---|"]
    for width in problem.candidates[decided[0]]:
        bits = {name: (widths[0],) * 2 for name, widths in problem.candidates.items()}
        place = problem.index(BitAssignment(bits | dict.fromkeys(decided, (width, width))))
        search, test = (
            100 * float(answers.probabilities @ accuracy[:, place])
            for accuracy in (answers.search, answers.test)
        )
        lines.append(f"| {width} | {100 * answers.costs[place]:.1f}% | {search:.2f} | {test:.2f} |")
    return lines


def report(problem: TableProblem, arguments: TabularArguments) -> str:
    """The report in Markdown; pictures are written on the way."""
    card, task = problem.table.card, Task()
    fronts = {
        str(condition): [(point.cost, point.accuracy) for point in problem.pareto_front(condition)]
        for condition in problem.mixture.conditions
    }
    plot_fronts(
        fronts,
        arguments.pictures / "tabular-fronts.png",
        title="Fronts of accuracy against BOPs by condition",
    )
    studies = {
        criterion: study(answers_of(problem, "bops", criterion), arguments.budgets)
        for criterion in CRITERIA
    }
    found = studies["loss"]
    plot_value(
        found.curves(),
        found.gains(),
        arguments.pictures / "tabular-value.png",
        title="What it is worth to know the condition of the input",
        reference=BLIND,
    )
    regret = regret_curve(problem, task, _EVALUATIONS)
    plot_regret(
        {"random search": regret},
        arguments.pictures / "tabular-regret.png",
        title="How far random search is from the optimum",
    )
    regrets = [f"{value:.3f}" for value in regret.median]
    lines = [
        f"# The tabular twin: {card.name}",
        "",
        f"Made by `python -m dqmq_env.benchmark.tabular`. {problem.count:,} assignments under "
        f"{len(card.conditions)} conditions; {card.images['search']:,} `search` images, "
        f"{card.images['test']:,} `test` images.",
        "",
        "## Optima",
        "",
        "Of the default task, reward `0.8 * accuracy + 0.2 * (1 - BOPs)` on `search`.",
        "",
        *optima(problem, task),
        "",
        "## Uniform bits",
        "",
        "In the mean over the conditions, in percent. At 89% the 95% interval over the choice of "
        f"`test` images is at most ±{100 * half_width(0.89, card.images['test']):.1f}: that of as "
        "many images under a single condition.",
        "",
        *uniform(problem),
        "",
        "## The value of knowing the condition",
        "",
        "Chosen on `search`, accuracy on `test` in percent, in the mean over the conditions; the "
        "interval is over the choice of `test` images. The gain is that of the rule by condition "
        "over the blind mixture; what is saved are BOPs at the blind mixture's accuracy, in "
        "percent. `not reached`: no rule chosen on `search` is as accurate on `test`; `?`: nor in "
        "one of 40 resamples.",
        "",
        *[line for name, own in studies.items() for line in _value(name, own)],
        "## Regret of random search",
        "",
        "Median over conditions and draws, worked out exactly.",
        "",
        f"| evaluations | {' | '.join(map(str, regret.evaluations))} |",
        "|" + "---|" * (len(regrets) + 1),
        f"| regret | {' | '.join(regrets)} |",
        "",
    ]
    return "\n".join(lines)


def _value(criterion: str, found: Study) -> list[str]:
    return [f"### Chosen by {criterion}", "", *table_of(found), ""]


def main(words: list[str] | None = None) -> None:
    """Entry point of ``python -m dqmq_env.benchmark.tabular``."""
    arguments = tyro.cli(TabularArguments, description=__doc__, args=words)
    with one_line_errors("tabular"):
        text = report(TableProblem(load_table(arguments.table)), arguments)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(arguments.output, text)
    print(text)


if __name__ == "__main__":
    main()
