"""The program ``dqmq``."""

import sys
from collections.abc import Callable
from importlib import import_module

import tyro

from dqmq_env.errors import SettingError
from dqmq_env.program import one_line_errors, own_package
from dqmq_env.version import __version__

USAGE = """usage: dqmq COMMAND [OPTIONS]

Data-quality-aware mixed-precision quantisation as a Gymnasium suite.

commands:
  envs      list the environments and what they decide about
  search    find the bits of a network's layers under a budget, in seconds
  train     train the hybrid agent: bits that follow each image
  tune      train a network's weights at the bits that a search has found
  demo      the demonstration: the hybrid agent beside static and uniform bits
  bench     run a suite of agents, tasks and seeds, here or on many machines
  report    a page, pictures and plain numbers from the results of a bench
  export    write a quantised network to a small file
  cost      what a network costs at uniform bits; tables of measured latency

options:
  --version   print the version
  --help      after a command: its options, with examples
"""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        return
    if words[0] == "--version":
        print(__version__)
        return
    with one_line_errors("dqmq"):
        command = _COMMANDS.get(words[0])
        if command is None:
            raise SettingError(f"unknown command {words[0]!r}, allowed are {', '.join(_COMMANDS)}")
        command(words[1:])


def _search(words: list[str]) -> None:
    own_package("baselines.fast_search.command").main(words)


def _train(words: list[str]) -> None:
    own_package("agents.hybrid.train").main(words)


def _tune(words: list[str]) -> None:
    own_package("agents.tune").main(words)


def _demo(words: list[str]) -> None:
    own_package("agents.hybrid.demo").main(words)


def _bench(words: list[str]) -> None:
    from dqmq_env.benchmark.bench import main as bench

    bench(words)


def _report(words: list[str]) -> None:
    from dqmq_env.benchmark.report.command import main as report

    report(words)


def _export(words: list[str]) -> None:
    from dqmq_env.export.command import main as export

    export(words)


def _envs(words: list[str]) -> None:
    from dqmq_env.registration import ALL_ENTRIES

    def envs() -> None:
        """List the ids of the suite; each page of the documentation is the class docstring."""
        for entry in ALL_ENTRIES:
            module, _, name = entry.entry_point.partition(":")
            page = getattr(import_module(module), name).__doc__ or ""
            print(f"{entry.id:30s} {page.splitlines()[0]}")

    tyro.cli(envs, args=words, prog="dqmq envs")


def _cost(words: list[str]) -> None:
    from dqmq_env.costs.command import main as cost

    cost(words)


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "envs": _envs,
    "search": _search,
    "train": _train,
    "tune": _tune,
    "demo": _demo,
    "bench": _bench,
    "report": _report,
    "export": _export,
    "cost": _cost,
}
