"""Compare methods at equal cost: the hybrid agent, its ablations, and what it is to beat.

`run` trains every method of a study at every budget by every seed, each on as many images by the
same schedule, and judges all on the same test images of mixed quality. What is done is kept, so the
same command goes on after a kill. `report` makes tables, pictures and a CSV file of what is there,
`overview` shows the agent beside its opponents over several experiments.

Examples:
  python -m agents.experiments run resnet8 --run runs/resnet8 --data FOLDER --jobs 2
  python -m agents.experiments report --run runs/resnet8 --output results/resnet8
  python -m agents.experiments overview results/resnet8 results/resnet20 --output results/overview
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from agents.experiments.overview import write_overview
from agents.experiments.report import write_report
from agents.experiments.run import run_study
from agents.experiments.study import load_study, study_names
from dqmq_env.program import one_line_errors


@dataclass(frozen=True)
class RunArguments:
    """Train and judge what is not there yet.

    Attributes:
        study: name of one that comes with the package, or a TOML file.
        run: folder of the experiment.
        data: folder of the study's images; the embedded subset of Fashion-MNIST when left out.
        checkpoints: folder of the study's float network, where it does not come with the package.
        seeds: in place of the study's.
        budgets: in place of the study's.
        methods: in place of the study's.
        tuning: judge on a seventh of the training images, left out of training, and not on test
            images: for settings that are being chosen, by seeds of their own.
        jobs: processes side by side, of one thread each.
    """

    study: tyro.conf.Positional[str]
    run: Path
    data: str | None = None
    checkpoints: str | None = None
    seeds: tuple[int, ...] | None = None
    budgets: tuple[float, ...] | None = None
    methods: tuple[str, ...] | None = None
    tuning: bool = False
    jobs: int = 1


@dataclass(frozen=True)
class ReportArguments:
    """Tables, pictures and a CSV file.

    Attributes:
        run: folder of an experiment.
        output: folder that gets them.
    """

    run: Path
    output: Path


@dataclass(frozen=True)
class OverviewArguments:
    """The agent beside its opponents, over several experiments.

    Attributes:
        runs: folders of experiments.
        output: folder that gets it.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    output: Path


Arguments = (
    Annotated[RunArguments, tyro.conf.subcommand("run")]
    | Annotated[ReportArguments, tyro.conf.subcommand("report")]
    | Annotated[OverviewArguments, tyro.conf.subcommand("overview")]
)


def main(words: list[str] | None = None) -> None:
    """Entry point of ``python -m agents.experiments``."""
    teaching = f"{__doc__}\nStudies: {', '.join(study_names())}."
    arguments: RunArguments | ReportArguments | OverviewArguments = tyro.cli(
        Arguments,
        description=teaching,
        args=words,
        prog="python -m agents.experiments",
    )
    with one_line_errors("python -m agents.experiments"):
        if isinstance(arguments, ReportArguments):
            print(write_report(arguments.run, arguments.output))
            return
        if isinstance(arguments, OverviewArguments):
            print(write_overview(arguments.runs, arguments.output))
            return
        names = ("data", "checkpoints", "seeds", "budgets", "methods", "tuning")
        given = {name: getattr(arguments, name) for name in names}
        study = load_study(arguments.study, **{k: v for k, v in given.items() if v is not None})
        failed = run_study(study, arguments.run, arguments.jobs)
        for line in failed:
            print(line, file=sys.stderr)
        if failed:
            raise SystemExit(1)
