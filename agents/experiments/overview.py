"""One agent beside its opponents over several experiments: tables and a picture."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Self

import numpy as np

from agents.experiments.figures import (
    Difference,
    accuracy_of,
    by_budget,
    by_method,
    cost_of,
    difference,
)
from agents.experiments.judge import SEEN, UNSEEN
from agents.experiments.methods import OPPONENTS
from agents.experiments.report import IMAGE, signed, spoken, table
from agents.experiments.result import RunResult, load_results
from dqmq_env.benchmark.leads import plot_leads
from dqmq_env.errors import ResultError
from dqmq_env.files import atomic_write_text
from dqmq_env.training.run_folder import SETTINGS

_PICTURE = "points-above.png"
_DEARER = (
    "On the mixture: where the agent is not below an opponent that was trained for a higher "
    "budget, it needs no more than that share of the opponent's BOPs for the same accuracy."
)
_SETS = {SEEN: "the mixture that was trained on", UNSEEN: "corruptions that were held out"}


def write_overview(runs: Sequence[Path], output: Path) -> str:
    """Write ``report.md`` and a picture.

    Args:
        runs: folders of experiments; of each, the budgets at which the agent was judged by image.
        output: folder that gets them.

    Returns:
        A line that says what was written.

    Raises:
        ResultError: an experiment has no results of the agent by image and an opponent.
    """
    experiments = [_Experiment.of(run) for run in runs]
    found = {
        own.title(budget): own.budgets[budget] for own in experiments for budget in own.compared
    }
    output.mkdir(parents=True, exist_ok=True)
    opponents = _ordered(found)
    leads = {
        name: {
            opponent: lead.points
            for opponent in opponents
            if (lead := difference(own, IMAGE, opponent)) is not None
        }
        for name, own in found.items()
    }
    plot_leads(
        leads,
        output / _PICTURE,
        title="How far the hybrid agent, by image, is above its opponents",
        label="points of accuracy above the opponent at equal BOPs, 95% interval",
    )
    parts = [
        "# Overview",
        f"Points of accuracy by which *{IMAGE}* is above its opponents at equal BOPs and as many "
        "images trained on, with 95% intervals by Student's t over seeds, paired by seed. Numbers "
        "of seeds are behind the intervals; how all was made is in the report of each experiment.",
        f"![points above opponents]({_PICTURE})",
    ]
    for images, what in _SETS.items():
        parts += [f"## On {what}", _points(found, opponents, images)]
    parts += ["## Beside opponents that spend more", _DEARER, _dearer(experiments, opponents)]
    parts += ["## Images evaluated to find the bits", _effort(found, opponents)]
    atomic_write_text(output / "report.md", "\n\n".join(parts) + "\n")
    return f"{output / 'report.md'}: {len(found)} comparisons"


@dataclass(frozen=True)
class _Experiment:
    """All results of an experiment.

    Attributes:
        run: its folder.
        budgets: to the results at each, ascending.
    """

    run: Path
    budgets: Mapping[float, Sequence[RunResult]]

    @classmethod
    def of(cls, run: Path) -> Self:
        """What a folder holds."""
        found = cls(run, by_budget(load_results(run / "results")))
        if not found.compared:
            raise ResultError(f"runs: got {run}, which compares {IMAGE!r} with no opponent")
        return found

    @cached_property
    def name(self) -> str:
        """Of its study."""
        return str(json.loads((self.run / SETTINGS).read_text(encoding="utf-8"))["name"])

    @property
    def compared(self) -> list[float]:
        """The budgets at which the agent was judged by image, and an opponent."""
        methods = {
            budget: {own.run.method for own in found} for budget, found in self.budgets.items()
        }
        return [own for own, names in methods.items() if IMAGE in names and names & set(OPPONENTS)]

    def title(self, budget: float) -> str:
        """Of a column."""
        return f"{self.name}, {100 * budget:.3g}%"


def _ordered(found: Mapping[str, Sequence[RunResult]]) -> list[str]:
    """The opponents that any experiment has, those that come nearest to the agent first."""
    behind: dict[str, float] = {}
    for opponent in OPPONENTS:
        leads = [difference(own, IMAGE, opponent) for own in found.values()]
        points = [lead.points.value for lead in leads if lead is not None]
        if points:
            behind[opponent] = float(np.mean(points))
    return sorted(behind, key=lambda opponent: behind[opponent])


def _points(found: Mapping[str, Sequence[RunResult]], opponents: Sequence[str], images: str) -> str:
    """The agent's accuracy, and its lead over each opponent, on a set of images."""
    rows = [[f"**{IMAGE}**", *(_of_agent(own, images) for own in found.values())]]
    for opponent in opponents:
        leads = [_lead(own, opponent, images) for own in found.values()]
        rows.append([f"above {opponent}", *(_said(lead) for lead in leads)])
    return table(["", *found], rows)


def _of_agent(results: Sequence[RunResult], images: str) -> str:
    own = [result for result in by_method(results)[IMAGE] if images in result.rows]
    if not own:
        return "-"
    return f"{spoken(accuracy_of(own, images))} at {cost_of(own, images):.2f}% ({len(own)})"


def _lead(results: Sequence[RunResult], opponent: str, images: str) -> Difference | None:
    having = [own for own in results if images in own.rows]
    return difference(having, IMAGE, opponent, lambda own: 100 * own.accuracy(images))


def _said(lead: Difference | None) -> str:
    return "-" if lead is None else f"{signed(lead.points)} ({lead.seeds})"


def _dearer(experiments: Sequence[_Experiment], opponents: Sequence[str]) -> str:
    """The agent's lead over opponents at higher budgets than its own, on the mixture."""
    rows = []
    for experiment in experiments:
        for budget, other in product(experiment.compared, experiment.budgets):
            agents = by_method(experiment.budgets[budget])[IMAGE]
            against = by_method(experiment.budgets[other])
            for opponent in opponents if other > budget else ():
                runs = against.get(opponent, [])
                lead = difference([*agents, *runs], IMAGE, opponent)
                if lead is not None:
                    own, its = cost_of(agents), cost_of(runs)
                    costs = [f"{own:.2f}%", opponent, f"{its:.2f}%", f"{own / its:.2f}"]
                    rows.append([experiment.name, *costs, _said(lead)])
    heading = [f"{IMAGE}, at", "opponent", "at", "share of its BOPs", "points above it"]
    return table(["experiment", *heading], rows)


def _effort(found: Mapping[str, Sequence[RunResult]], opponents: Sequence[str]) -> str:
    rows = []
    for method in (IMAGE, *opponents):
        cells = []
        for own in found.values():
            runs = by_method(own).get(method, [])
            count = np.mean([result.images_evaluated for result in runs]) if runs else None
            cells.append("-" if count is None else f"{count:,.0f}")
        rows.append([method, *cells])
    return table(["", *found], rows)
