r"""Find the bits of a network's layers under a budget: in seconds, without training and labels.

The network is quantised after training. What each width of each layer does to its answers is
measured on a few images and kept in the run's folder; for each budget an integer programme finds
the bits, which a few evaluations refine. Several budgets share all that is measured. A command that
was killed goes on when it is given again. With --agent any other searcher looks for the bits.

Budgets are fractions of the cost at 8 bits: an average of 3 bits a weight is --budget 0.375. Bits
are judged on images that nothing was measured on (an --agent has seen them); lost are the points
below the float network on the same images, with 95% intervals over the choice of images.

Examples:
  dqmq search --network mynet:make --weights mynet.pt --data photos --budget 0.375
  dqmq search --network mynet:make --weights mynet.pt --data photos --sweep 8   # a front, a picture
  dqmq search --budget 0.3 --cost energy --activation-bits 8         # a shipped network
  dqmq search --budget 0.9 --cost latency --latency-table latency.csv
  dqmq search --budget 0.2 --cost bops --conditions clean --run runs/greedy \
      --agent baselines.greedy:GreedySearch --agent-settings '{"scope": "all"}'
and then
  dqmq export --run runs/search --output small.dqmq
"""

import hashlib
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import tyro

from baselines.fast_search.agent_search import AgentSearch
from baselines.fast_search.arguments import SearchArguments
from baselines.fast_search.front import Front, Row, found_row, uniform_row
from baselines.fast_search.judge import Judge
from baselines.fast_search.search import FastSearch
from baselines.fast_search.sensitivities import Store
from dqmq_env.benchmark.job import Job
from dqmq_env.benchmark.resolve import searcher_of, setting_of
from dqmq_env.envs.network_setting import NetworkSetting
from dqmq_env.errors import SettingError
from dqmq_env.export.found_bits import FoundBits
from dqmq_env.problem.digests import digests
from dqmq_env.program import one_line_errors
from dqmq_env.progress import progress
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.search.rule import Rule
from dqmq_env.search.space import Space
from dqmq_env.task.budget import Budget
from dqmq_env.training.run_folder import working_in
from dqmq_env.version import __version__


class Finder(Protocol):
    """Finds bits under a budget."""

    def find(self, budget: Budget) -> BitAssignment | Rule:
        """The bits, within the budget."""
        ...


class Search:
    """A run of ``dqmq search``: arguments are checked when it is made.

    Args:
        arguments: see :class:`~baselines.fast_search.arguments.SearchArguments`.

    Raises:
        DQMQError: an argument is wrong, or a budget out of reach; nothing has been written.

    Attributes:
        problem: the network and its images.
        budgets: ascending, as fractions of the cost at 8 bits.
    """

    def __init__(self, arguments: SearchArguments) -> None:
        self._arguments, other = arguments, arguments.other
        names = ("train_images", "search_images", "decisions")
        settings = arguments.network.settings({name: getattr(arguments, name) for name in names})
        job = Job(
            agent=other.agent or "",
            id=arguments.network.id,
            evaluations=other.evaluations,
            seed=other.seed,
            settings=_json(other.agent_settings),
            env=settings,
        )
        # first, since what is wrong should be refused before any long work
        self._searcher = searcher_of(job) if other.agent else None
        setting = setting_of(job)
        if not isinstance(setting, NetworkSetting):
            raise SettingError(f"env: got {job.id}, allowed are ids over a live network")
        most = arguments.search_images
        if most is not None and most < setting.batch_size:
            settings["batch_size"] = most
        setting = replace(
            setting,
            batch_size=settings.get("batch_size", setting.batch_size),
            cost=arguments.cost,
            latency_table=arguments.latency_table,
            weight_memory=arguments.weight_memory,
        )
        self._task = setting.task()
        self.problem = setting.problem()
        self.budgets = self._reachable()
        self._identity = {
            "version": __version__,
            "environment": {"id": job.id, "settings": settings},
            "fast": asdict(arguments.fast),
            "other": asdict(other),
            "latency_table": _digest(arguments.latency_table),
            "weight_memory": arguments.weight_memory,
            **digests(self.problem),
        }

    def run(self) -> Front:
        """Find bits under every budget, keep them in the folder, and judge them.

        Raises:
            DQMQError: the folder holds another run, or the searcher cannot do with what it gets.
        """
        judge = Judge(self.problem)
        with working_in(self._arguments.run, self._identity):
            rows = self._rows(judge)
        uniform = [uniform_row(self.problem, judge, width) for width in self._beside()]
        network = self._arguments.network
        title = f"{network.network or network.id}, {len(self.problem.data.search)} search images"
        return Front(title, self._task.budget.cost.name, judge.float_verdict, [*uniform, *rows])

    def _rows(self, judge: Judge) -> list[Row]:
        """What is found under each budget, of the folder where it is there."""
        kept, finder, cost = FoundBits(self._arguments.run), self._finder(), self._task.budget.cost
        rows = []
        with progress(len(self.budgets), "budgets", "budget") as bar:
            for fraction in self.budgets:
                bits = kept.get(cost.name, fraction)
                if bits is None:
                    bits = finder.find(Budget(cost, fraction))
                    kept.put(cost.name, fraction, bits)
                rows.append(found_row(self.problem, judge, fraction, bits))
                bar.update()
        return rows

    def _finder(self) -> Finder:
        arguments, decisions = self._arguments, self._task.decisions
        if self._searcher is None:
            store = Store(arguments.run / "sensitivities.dqmq", self._identity)
            return FastSearch(self.problem, arguments.fast, decisions, store, progress_bar=True)
        other = arguments.other
        return AgentSearch(self.problem, self._searcher, decisions, other.evaluations, other.seed)

    def _reachable(self) -> list[float]:
        """The budgets, with those of a sweep.

        Raises:
            SettingError: there are none, or one is infinite.
            BudgetError: one is out of reach.
        """
        budgets, steps = set(self._arguments.budget), self._arguments.sweep
        if not budgets or math.inf in budgets:
            raise SettingError(
                f"budget: got {sorted(budgets)}, allowed are one or more finite numbers"
            )
        if steps < 0:
            raise SettingError(f"sweep: got {steps}, allowed are 0 and more")
        spaces = [self._space(fraction) for fraction in sorted(budgets)]
        least, most = spaces[0].cost(spaces[0].narrowest()), max(budgets)
        spread = np.geomspace(least, most, steps).tolist()
        budgets |= {min(most, math.ceil(own * 1e4) / 1e4) for own in spread}
        return sorted(budgets)

    def _space(self, fraction: float) -> Space:
        budget = Budget(self._task.budget.cost, fraction)
        return Space(self.problem, replace(self._task, budget=budget))

    def _beside(self) -> list[int]:
        """Uniform widths to compare with: all; with a single budget the widest, and one within it.

        All decided layers have the same candidates.
        """
        widths = next(own for own in self.problem.candidates.values() if len(own) > 1)
        if len(self.budgets) > 1:
            return list(reversed(widths))
        cost, bound = self._task.budget.cost.name, self.budgets[0]
        costs = {width: self.problem.cost(self.problem.uniform(width))[cost] for width in widths}
        within = [width for width in widths if costs[width] <= bound]
        return sorted({widths[-1], *within[-1:]}, reverse=True)


def main(words: list[str] | None = None) -> None:
    """Entry point of ``dqmq search``."""
    arguments = tyro.cli(
        SearchArguments,
        description=__doc__,
        args=words,
        prog="dqmq search",
        config=(tyro.conf.OmitArgPrefixes,),
    )
    with one_line_errors("dqmq search"):
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        front = Search(arguments).run()
        front.show()
        for path in (*FoundBits(arguments.run).paths, *front.write(arguments.run / "front")):
            print(path)


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingError(f"agent_settings: got {text!r}, allowed is JSON: {error}") from error
    if not isinstance(found, dict):
        raise SettingError(f"agent_settings: got {text!r}, allowed is a JSON object")
    return found


def _digest(path: str | None) -> str | None:
    return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()
