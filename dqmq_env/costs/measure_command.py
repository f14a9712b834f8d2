"""Build a table of latencies: layers x weight bits x activation bits, in milliseconds.

Each layer is timed by itself through ONNX Runtime at its real input shape, for float and for every
integer type that the runtime has; the file says which type holds which bits, which of them the
runtime only emulates, and on what machine it was. A table that was measured elsewhere is checked
against the network and written in the same form.

Examples:
  dqmq cost measure --to latency.csv
  dqmq cost measure --to latency.csv --checkpoint resnet8-fashion-mnist --repeats 200
  dqmq cost measure --to latency.csv --network torchvision.models:resnet18 --input-shape 3 224 224
  dqmq cost measure --to latency.csv --types 8             # all widths in 8-bit integers
  dqmq cost measure --to latency.csv --from phone.csv      # measured elsewhere
  dqmq cost measure --to latency.csv --from haq.npy --unit ms    # an array, layers in order

and then, in Python:
  gym.make("DQMQ-ResNet-v0", cost="latency", latency_table="latency.csv", budget=0.9)
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dqmq_env.costs.cost import REFERENCE_BITS, total
from dqmq_env.costs.latency import LatencyTable
from dqmq_env.costs.measuring import Measuring
from dqmq_env.costs.show_command import show_table
from dqmq_env.errors import SettingError, TableError
from dqmq_env.quantization.assignment import BitAssignment

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class MeasureArguments:
    """Which network, how it is timed, and where the table goes.

    Attributes:
        to: CSV file that is written.
        checkpoint: name of a shipped checkpoint.
        network: module:function that makes a network of one's own, in place of the checkpoint.
        input_shape: of one image for it: channels, height, width.
        how: how layers are timed.
        source: CSV or .npy file (HAQ's form) that was measured elsewhere; nothing is timed then.
        unit: of a .npy file without a .json beside it that names layers and unit: ms.
        force: write over an existing file.
    """

    to: Path
    checkpoint: str = "resnet20-fashion-mnist"
    network: str | None = None
    input_shape: tuple[int, ...] = ()
    how: Annotated[Measuring, tyro.conf.arg(name="")] = field(default_factory=Measuring)
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    unit: str | None = None
    force: bool = False


def main(words: list[str]) -> None:
    """Entry point of ``dqmq cost measure``.

    Raises:
        DQMQError: the network or the table cannot be had, or the file exists.
    """
    arguments = tyro.cli(
        MeasureArguments, args=words, prog="dqmq cost measure", description=__doc__
    )
    if arguments.to.exists() and not arguments.force:
        raise SettingError(f"to: {arguments.to} exists, allowed with --force alone")
    if not arguments.to.parent.is_dir():
        raise SettingError(f"to: there is no folder {arguments.to.parent}")
    network, example = _network(arguments)
    if arguments.source is None:
        from dqmq_env.costs.measure import measure

        table = measure(network, example, arguments.how)
    else:
        table = _checked(arguments.source, arguments.unit, network, example)
    table.to_csv(arguments.to)
    show_table(table)
    print(f"written: {arguments.to}")


def _network(arguments: MeasureArguments) -> "tuple[nn.Module, Tensor]":
    """A network, and an input of one image for it."""
    import torch

    if arguments.network is None:
        from dqmq_env.data import load_fashion_mnist
        from dqmq_env.zoo.checkpoints import load_checkpoint

        network, _ = load_checkpoint(arguments.checkpoint)
        return network, load_fashion_mnist().test.images[:1].float()
    if len(arguments.input_shape) != 3 or min(arguments.input_shape) < 1:
        raise SettingError(
            f"input_shape: got {arguments.input_shape}, allowed are channels, height and width, "
            "such as --input-shape 3 32 32"
        )
    from dqmq_env.zoo.own import make_network

    return make_network(arguments.network), torch.zeros(1, *arguments.input_shape)


def _checked(
    source: Path, unit: str | None, network: "nn.Module", example: "Tensor"
) -> LatencyTable:
    """A table that was measured elsewhere, with the MACs of the network's layers.

    Raises:
        TableError: it cannot be read, or does not fit the network.
    """
    from dqmq_env.quantization.tracing import trace_layers

    specs = {spec.name: spec for spec in trace_layers(network, example)}
    beside = source.with_suffix(".json").is_file()
    if source.suffix == ".npy" and not beside:
        if unit is None:
            raise SettingError(
                f"unit: got none, there is no {source.with_suffix('.json')} to say it; allowed is "
                "--unit ms"
            )
        table = LatencyTable.from_npy(source, list(specs), unit)
    else:
        table = LatencyTable.load(source)
    foreign = [layer for layer in table.layers if layer not in specs]
    if foreign:
        raise TableError(f"latency: {source} has layers that the network has not: {foreign}")
    total(table, list(specs.values()), BitAssignment.uniform(specs, REFERENCE_BITS))
    timings = [replace(own, macs=own.macs or specs[own.layer].macs) for own in table.timings]
    return replace(table, timings=tuple(timings))
