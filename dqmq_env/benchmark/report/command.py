"""Report on the results of one or several run folders of the benchmark.

Writes `report.html`, one page that works from disk without a network; `report.md` with its
pictures; and the plain numbers, `runs.csv` and `curves.csv`. The same results give the same bytes.

Examples:
  dqmq report runs/tabular
  dqmq report runs/tabular runs/live --output benchmarks/report
  dqmq report runs/tabular --reference greedy
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dqmq_env.benchmark.report.content import Effort, build
from dqmq_env.benchmark.report.html import page
from dqmq_env.benchmark.report.markdown import markdown
from dqmq_env.benchmark.report.raw import curves_csv, runs_csv
from dqmq_env.benchmark.report.runs import read_runs
from dqmq_env.benchmark.statistics import PROFILE_RESAMPLES, RESAMPLES
from dqmq_env.errors import ResultError
from dqmq_env.files import atomic_write_text
from dqmq_env.program import one_line_errors


@dataclass(frozen=True)
class ReportArguments:
    """Which runs, and where the report goes.

    Attributes:
        runs: run folders, as `dqmq bench` makes them.
        output: folder of the report; `report` in the first run folder where left out.
        reference: name of the agent that others are compared with; random search where left out.
        resamples: of the intervals of aggregates and comparisons.
        profile_resamples: of those of profiles, curves and single tasks.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    output: Path | None = None
    reference: str | None = None
    resamples: int = RESAMPLES
    profile_resamples: int = PROFILE_RESAMPLES


def write_report(arguments: ReportArguments) -> Path:
    """Write all files of a report, and return their folder.

    Raises:
        ResultError: there are no results, they do not go together, or the folder cannot be written.
        SettingError: a setting is out of its range.
    """
    if not arguments.runs:
        raise ResultError("runs: got none, must be one or more run folders")
    read = read_runs(arguments.runs)
    for line in read.damaged:
        print(f"left out, as it is damaged: {line}", file=sys.stderr)
    effort = Effort(arguments.resamples, arguments.profile_resamples)
    content = build(read, arguments.reference, effort)
    folder = arguments.output or arguments.runs[0] / "report"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        texts = {
            "report.html": page(content),
            "report.md": markdown(content, folder / "pictures"),
            "runs.csv": runs_csv([own.group for own in content.groups]),
            "curves.csv": curves_csv(read.runs),
        }
        for name, text in texts.items():
            atomic_write_text(folder / name, text)
    except OSError as error:
        raise ResultError(f"output: {folder} cannot be written: {error}") from error
    return folder


def main(words: list[str] | None = None) -> None:
    """Entry point of ``dqmq report``."""
    arguments = tyro.cli(ReportArguments, prog="dqmq report", description=__doc__, args=words)
    with one_line_errors("dqmq"):
        folder = write_report(arguments)
    print(f"{folder / 'report.html'} and, beside it, report.md, runs.csv, curves.csv")
