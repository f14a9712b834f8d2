"""The plain numbers behind a report, in full precision, as CSV."""

import csv
import json
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

from dqmq_env.benchmark.report.groups import GAPS, Group
from dqmq_env.benchmark.report.runs import Run

_SCORES = ("reward", "accuracy", "test", "tuned")


def runs_csv(groups: Sequence[Group]) -> str:
    """One row for each run and condition; what is not known is empty.

    Args:
        groups: of all runs.
    """
    rows = [row for group in groups for run in group.runs for row in _rows(group, run)]
    return _csv(rows)


def curves_csv(runs: Sequence[Run]) -> str:
    """One row for each point of each curve.

    Args:
        runs: all of them.
    """
    return _csv(
        {
            **_job(run),
            "at": count,
            "reward": reward,
            "optimum": run.result.optimum,
        }
        for run in runs
        for count, reward in run.result.curve
    )


def _job(run: Run) -> dict[str, Any]:
    job = run.result.job
    return {"key": job.key, "task": run.task, "agent": run.agent, "seed": job.seed}


def _rows(group: Group, run: Run) -> Iterable[dict[str, Any]]:
    result, job = run.result, run.result.job
    whole = {
        **_job(run),
        "class": job.agent,
        "settings": json.dumps(dict(job.settings), sort_keys=True),
        "fine_tune": "" if job.fine_tune is None else json.dumps(job.fine_tune, sort_keys=True),
        "evaluations": job.evaluations,
        "version": job.version,
        "source": result.source,
        "scale": group.scale.name,
        "score": group.score(run),
        **{f"evaluations_within_{gap}": run.evaluations_within(gap) for gap in GAPS},
        **{f"spent_{name}": count for name, count in sorted(result.spent.items())},
        "seconds": result.seconds,
    }
    for score, uniform in zip(result.scores, result.uniform, strict=True):
        yield {
            **whole,
            "condition": score.condition,
            "share": score.share,
            **{name: getattr(score, name) for name in _SCORES},
            "optimum": score.optimum,
            **{f"cost_{name}": value for name, value in sorted(score.costs.items())},
            **{f"uniform_{name}": getattr(uniform, name) for name in _SCORES},
            **{f"uniform_cost_{name}": value for name, value in sorted(uniform.costs.items())},
        }


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    """With a column for every name that occurs, in the order in which they do."""
    known = list(rows)
    names = list(dict.fromkeys(name for row in known for name in row))
    stream = StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(known)
    return stream.getvalue()
