"""What a network costs, by the formulas and by the clock.

Without a word after ``cost``: size, BOPs, energy and memory traffic of a shipped network at uniform
bits. ``measure`` times its layers on this machine, ``show`` prints a table of such times; both end
in a file that ``latency_table=`` of every environment takes.

Examples:
  dqmq cost                                                # ResNet-20 at 32 and 8 to 2 bits
  dqmq cost --checkpoint mobilenetv2-fashion-mnist --weight-memory dram
  dqmq cost measure --to latency.csv                       # dqmq cost measure --help
  dqmq cost show --table latency.csv
"""

import sys
from dataclasses import dataclass

import tyro

from dqmq_env.costs.cost import Bops, Cost, Size, total
from dqmq_env.costs.energy import Energy
from dqmq_env.costs.memory import Memory


@dataclass(frozen=True)
class CostArguments:
    """Which network.

    Attributes:
        checkpoint: name of a shipped checkpoint.
        weight_memory: where the energy has weights come from: sram on the chip, or dram.
    """

    checkpoint: str = "resnet20-fashion-mnist"
    weight_memory: str = "sram"


def main(words: list[str] | None = None) -> None:
    """Entry point of ``dqmq cost``.

    Raises:
        DQMQError: what was asked for cannot be had.
    """
    words = sys.argv[1:] if words is None else words
    if words and words[0] == "measure":
        from dqmq_env.costs.measure_command import main as measure

        measure(words[1:])
    elif words and words[0] == "show":
        from dqmq_env.costs.show_command import main as show

        show(words[1:])
    else:
        show_uniform(tyro.cli(CostArguments, args=words, prog="dqmq cost", description=__doc__))


def show_uniform(arguments: CostArguments) -> None:
    """Print what a shipped network costs at uniform bits, every layer alike.

    Raises:
        CheckpointError: there is no such checkpoint.
        SettingError: there is no such memory.
    """
    from rich.console import Console
    from rich.table import Table

    from dqmq_env.data import load_fashion_mnist
    from dqmq_env.quantization.assignment import BitAssignment
    from dqmq_env.quantization.tracing import trace_layers
    from dqmq_env.zoo.checkpoints import load_checkpoint

    energy = Energy(arguments.weight_memory)  # first, since a wrong one should be refused early
    network, _ = load_checkpoint(arguments.checkpoint)
    specs = trace_layers(network, load_fashion_mnist().test.images[:1].float())
    kib = 8 * 1024
    columns: dict[str, tuple[Cost, float, int]] = {
        "size, KiB": (Size(), kib, 1),
        "BOPs, G": (Bops(), 1e9, 3),
        "energy, uJ": (energy, 1e6, 2),
        "memory, KiB": (Memory(), kib, 1),
    }
    table = Table(title=f"{arguments.checkpoint}: {len(specs)} layers, one image")
    for heading in ("bits", *columns):
        table.add_column(heading, justify="right")
    for bits in (32, 8, 7, 6, 5, 4, 3, 2):
        every = BitAssignment.uniform((spec.name for spec in specs), bits)
        shown = [
            f"{total(cost, specs, every) / unit:.{digits}f}"
            for cost, unit, digits in columns.values()
        ]
        table.add_row("float" if bits == 32 else str(bits), *shown)
    Console().print(table)
