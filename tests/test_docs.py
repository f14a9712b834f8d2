"""The documentation's examples do what they say."""

from pathlib import Path
from typing import Any

import numpy as np

from dqmq_env.costs import Bops
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.search.meter import MeteredProblem
from dqmq_env.search.rule import rule_of
from dqmq_env.task.budget import Budget
from dqmq_env.task.task import Task

DOCS = Path(__file__).parent.parent / "docs"


def test_the_agent_of_ones_own_climbs(tmp_path: Path, monkeypatch: Any) -> None:
    code = (DOCS / "benchmark.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 26
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    from mine import Climber  # type: ignore[import-not-found]

    table = TableProblem(load_table("resnet8-fashion-mnist"))
    task = Task(budget=Budget(Bops(), 0.3))
    problem = MeteredProblem(table, 900)
    rule = rule_of(Climber().search(problem, task, 900, 0), table, task)
    assert problem.spent.evaluations == 900
    assert np.mean([table.regret(own, c, task) for c, own in rule.items()]) < 0.3
