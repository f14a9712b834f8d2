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
  train     train the hybrid agent: bits that follow each image
  demo      the demonstration: the hybrid agent beside uniform bits
  bench     run a suite of agents, tasks and seeds, here or on many machines
  report    a page, pictures and plain numbers from the results of a bench
  cost      size and BOPs of a shipped network at uniform bits

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


def _train(words: list[str]) -> None:
    own_package("agents.hybrid.train").main(words)


def _demo(words: list[str]) -> None:
    own_package("agents.hybrid.demo").main(words)


def _bench(words: list[str]) -> None:
    from dqmq_env.benchmark.bench import main as bench

    bench(words)


def _report(words: list[str]) -> None:
    from dqmq_env.benchmark.report.command import main as report

    report(words)


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
    from rich.console import Console
    from rich.table import Table

    from dqmq_env.costs import Bops, Size, total
    from dqmq_env.data import load_fashion_mnist
    from dqmq_env.quantization.assignment import BitAssignment
    from dqmq_env.quantization.tracing import trace_layers
    from dqmq_env.zoo.checkpoints import load_checkpoint

    def cost(checkpoint: str = "resnet20-fashion-mnist") -> None:
        """Print size and BOPs of a shipped network at uniform bits, every layer alike.

        Args:
            checkpoint: name of a shipped checkpoint.
        """
        network, _ = load_checkpoint(checkpoint)
        example = load_fashion_mnist().test.images[:1].float()
        specs = trace_layers(network, example)
        table = Table(title=f"{checkpoint}: {len(specs)} layers")
        for heading in ("bits", "size, KiB", "BOPs, G"):
            table.add_column(heading, justify="right")
        for bits in (32, 8, 7, 6, 5, 4, 3, 2):
            assignment = BitAssignment.uniform((spec.name for spec in specs), bits)
            kib = total(Size(), specs, assignment) / 8 / 1024
            bops = total(Bops(), specs, assignment) / 1e9
            table.add_row("float" if bits == 32 else str(bits), f"{kib:.1f}", f"{bops:.3f}")
        Console().print(table)

    tyro.cli(cost, args=words, prog="dqmq cost")


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "envs": _envs,
    "train": _train,
    "demo": _demo,
    "bench": _bench,
    "report": _report,
    "cost": _cost,
}
