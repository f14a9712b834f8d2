"""What following the quality of the input is worth on a live network, by condition and by image.

Assignments that are worth their cost are taken from the network's table, where one is shipped, or
from measured sensitivities; what each of them makes of every image is evaluated, and the ways to
give them to images are compared under equal average BOPs. All is chosen on `search` and scored on
`test`. The report and its picture are named after the problem.

Examples:
  python -m dqmq_env.benchmark.quality_report
  python -m dqmq_env.benchmark.quality_report --problem resnet20-fashion-mnist --images 1000
  python -m dqmq_env.benchmark.quality_report --problem my_module:make_problem
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from dqmq_env.benchmark.curves import plot_value
from dqmq_env.benchmark.image_answers import collect, sensitivity_front
from dqmq_env.benchmark.image_value import oracle_by_image
from dqmq_env.benchmark.quality_study import BLIND, answers_by_image, study, table_of
from dqmq_env.data import load_fashion_mnist
from dqmq_env.errors import SettingError
from dqmq_env.files import atomic_write_text
from dqmq_env.problem.fronts import concave_hull
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.quality_value import Answers
from dqmq_env.problem.table import load_table, table_names
from dqmq_env.problem.table_answers import answers_of
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.program import one_line_errors
from dqmq_env.progress import progress
from dqmq_env.quality import DEFAULT_CONDITIONS
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.zoo.checkpoints import checkpoint_names, load_checkpoint

_COST = "bops"


@dataclass(frozen=True)
class ReportArguments:
    """Which problem, and how much is evaluated.

    Attributes:
        problem: name of a shipped checkpoint, or `module:function` of a function that returns a
            `NetworkProblem`.
        budgets: on the average BOPs, as fractions of those at 8 bits.
        images: number of the first images of `search` and of `test`; those of the table, where one
            is shipped.
        criterion: `accuracy` or `loss`, what rules by condition are chosen by on `search`.
        assignments: most assignments that sensitivities propose for each condition.
        output: folder of the report.
        pictures: folder of the picture.
    """

    problem: str = "resnet8-fashion-mnist"
    budgets: tuple[float, ...] = (0.1, 0.12, 0.14, 0.17, 0.2, 0.25, 0.3, 0.4)
    images: int = 2_000
    criterion: Literal["accuracy", "loss"] = "loss"
    assignments: int = 8
    output: Path = Path("benchmarks")
    pictures: Path = Path("docs/images")

    @property
    def name(self) -> str:
        """What files are named after."""
        return self.problem.replace(":", "-").replace(".", "-")

    @property
    def command(self) -> str:
        """What makes the same report."""
        words = [f"python -m dqmq_env.benchmark.quality_report --problem {self.problem}"]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("budgets", "images", "criterion", "assignments") and (
                value != field.default
            ):
                values = value if isinstance(value, tuple) else (value,)
                words.append(f"--{field.name} {' '.join(map(str, values))}")
        return " ".join(words)


def load_problem(name: str) -> NetworkProblem:
    """A problem over a shipped network and the default conditions, or what a function returns.

    Raises:
        SettingError: there is no such checkpoint or function, or it returns something else.
    """
    module, found, function = name.partition(":")
    if not found:
        if name not in checkpoint_names():
            raise SettingError(
                f"--problem: got {name!r}, allowed are {checkpoint_names()} or module:function"
            )
        network, _ = load_checkpoint(name)
        return NetworkProblem.over(network, load_fashion_mnist(), conditions=DEFAULT_CONDITIONS)
    try:
        problem = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError) as error:
        raise SettingError(f"--problem: {name!r} cannot be called: {error}") from error
    if not isinstance(problem, NetworkProblem):
        raise SettingError(f"--problem: {name!r} returned {type(problem).__name__}")
    return problem


def table_corners(answers: Answers) -> list[BitAssignment]:
    """The assignments between which mixing is best, under some condition or blindly."""
    mean = answers.probabilities @ answers.score
    hulls = [concave_hull(answers.costs, row) for row in (*answers.score, mean)]
    return [answers.assignment(int(place)) for place in np.unique(np.concatenate(hulls))]


def proposed(problem: NetworkProblem, most: int) -> list[BitAssignment]:
    """Assignments that measured sensitivities propose under each condition, and uniform ones.

    Args:
        problem: with joint bits of weights and activations.
        most: number for each condition, spread evenly over the logarithm of their costs.
    """
    widths = max(problem.candidates.values(), key=len)
    found = [problem.uniform(bits) for bits in widths]
    conditions = problem.mixture.conditions
    with progress(len(conditions), "sensitivities", "condition") as bar:
        for condition in conditions:
            front = sensitivity_front(problem, _COST, condition)
            costs = np.log([problem.cost(own)[_COST] for own in front])
            wanted = np.linspace(costs[0], costs[-1], most)
            found += [front[place] for place in np.abs(costs - wanted[:, None]).argmin(1)]
            bar.update()
    return list(dict.fromkeys(found))


def report(problem: NetworkProblem, arguments: ReportArguments) -> str:
    """The report in Markdown; the picture is written on the way."""
    if arguments.problem in table_names():
        source, table = "its table", TableProblem(load_table(arguments.problem))
        whole, count = (
            answers_of(table, _COST, arguments.criterion),
            table.table.card.images["test"],
        )
        images = collect(problem, table_corners(whole), _COST, count)
    else:
        source, count = "measured sensitivities", arguments.images
        images = collect(problem, proposed(problem, arguments.assignments), _COST, count)
        whole = answers_by_image(images, arguments.criterion)
    budgets = [own for own in arguments.budgets if own >= whole.costs.min()]
    found = study(whole, budgets, images)
    picture = arguments.pictures / f"quality-{arguments.name}.png"
    plot_value(
        found.curves(),
        found.gains(),
        picture,
        title="What it is worth to follow the quality of the input",
        reference=BLIND,
    )
    oracles = [oracle_by_image(images, budget).accuracy for budget in budgets]
    lines = [
        f"# The value of following the quality: {arguments.problem}",
        "",
        f"Made by `{arguments.command}`. {len(images.assignments)} assignments from {source}, "
        f"{len(images.conditions)} conditions, {count:,} images of each split. Chosen by "
        f"{arguments.criterion} on `search`; accuracy on `test` in percent, in the mean over the "
        "conditions, gains in points over the blind mixture of equal BOPs with 95% intervals over "
        "the choice of `test` images.",
        "",
        *table_of(found),
        "",
        _oracle_line(budgets, oracles),
        "",
    ]
    return "\n".join(lines)


def _oracle_line(budgets: Sequence[float], oracles: Sequence[float]) -> str:
    ends = [f"{100 * oracles[place]:.1f} at {100 * budgets[place]:.0f}%" for place in (0, -1)]
    return (
        "An oracle that knew beforehand which assignments get an image right, which no rule can, "
        f"would have {' and '.join(ends)}."
    )


def main(words: list[str] | None = None) -> None:
    """Entry point of ``python -m dqmq_env.benchmark.quality_report``."""
    arguments = tyro.cli(ReportArguments, description=__doc__, args=words)
    with one_line_errors("quality_report"):
        text = report(load_problem(arguments.problem), arguments)
        arguments.output.mkdir(parents=True, exist_ok=True)
        atomic_write_text(arguments.output / f"QUALITY-{arguments.name}.md", text)
    print(text)


if __name__ == "__main__":
    main()
