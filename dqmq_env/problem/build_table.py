"""Evaluate every assignment of a shipped network, for the tabular twin of its environment.

The assignments are walked as one prefix tree under each condition, in units of a few hundred. A
unit that is done is never done again: a run that was killed goes on where it stood when the same
command is given again, and several machines that share the folder may each take a shard.

Examples:
  python -m dqmq_env.problem.build_table --processes 2
  python -m dqmq_env.problem.build_table --shard 0/4 --run /shared/table    # and 1/4, 2/4, 3/4
  python -m dqmq_env.problem.build_table --device cuda
"""

import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from dqmq_env.data import load_fashion_mnist
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import SHIPPED, save_table
from dqmq_env.problem.table_assembly import assemble
from dqmq_env.problem.table_units import (
    Unit,
    all_units,
    evaluate_unit,
    load_unit,
    save_unit,
)
from dqmq_env.program import one_line_errors
from dqmq_env.progress import progress
from dqmq_env.quality import DEFAULT_CONDITIONS, Condition
from dqmq_env.shard import Shard
from dqmq_env.training.run_folder import claim_run_folder
from dqmq_env.zoo.checkpoints import load_card, load_checkpoint


@dataclass(frozen=True)
class TableArguments:
    """Which table, and how the work is shared out.

    Attributes:
        checkpoint: name of a shipped checkpoint.
        bits: candidate bits of all layers but the first and the last, which have 8.
        conditions: that images go through.
        search_images: images of ``search`` that assignments are judged on.
        test_images: images of ``test`` that assignments are judged on.
        run: folder of the units that are done.
        shard: ``i/n`` does every n-th unit, beginning with the i-th, from 0.
        processes: units evaluated side by side, each on one thread.
        device: cpu, cuda or any other name that torch knows.
        output: folder of the table, which is written when all units are done; a run of several
            shards is put together by the same command without ``--shard``.
    """

    checkpoint: str = "resnet8-fashion-mnist"
    bits: tuple[int, ...] = (2, 3, 4, 6, 8)
    conditions: tuple[str, ...] = tuple(map(str, DEFAULT_CONDITIONS))
    search_images: int = 2_000
    test_images: int = 2_000
    run: Path = Path("runs/table")
    shard: str = "0/1"
    processes: int = 1
    device: str = "cpu"
    output: Path = SHIPPED


def table_problem(arguments: TableArguments, granularity: str = "batch") -> NetworkProblem:
    """The live problem that a table is made of: its one batch is the whole of ``search``.

    Args:
        arguments: which table.
        granularity: what is decided about, where the problem is for learning and not for the table.
    """
    network, _ = load_checkpoint(arguments.checkpoint)
    return NetworkProblem.over(
        network,
        load_fashion_mnist(),
        bits=arguments.bits,
        conditions=[Condition.parse(text) for text in arguments.conditions],
        batch_size=arguments.search_images,
        granularity=granularity,
    )


def own_units(arguments: TableArguments) -> list[Unit]:
    """The units of the shard.

    Raises:
        SettingError: the shard is not ``i/n`` with i from 0 to n - 1.
    """
    shard = Shard.parse(arguments.shard)
    conditions = [Condition.parse(text) for text in arguments.conditions]
    units = all_units(conditions, len(arguments.bits))
    return [unit for number, unit in enumerate(units) if shard.has(number)]


def evaluate_units(arguments: TableArguments) -> None:
    """Evaluate the units that are missing."""
    units = own_units(arguments)
    missing = [unit for unit in units if load_unit(arguments.run, unit) is None]
    with (
        progress(len(units), "table", "unit", initial=len(units) - len(missing)) as bar,
        _workers(arguments) as pool,
    ):
        for future in as_completed([pool.submit(_evaluate, unit) for unit in missing]):
            future.result()
            bar.update()


def _workers(arguments: TableArguments) -> Executor:
    count = arguments.processes
    if count == 1:
        return ThreadPoolExecutor(1, initializer=_prepare, initargs=(arguments,))
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, context, initializer=_prepare, initargs=(arguments,))


def write_table(arguments: TableArguments, settings: dict[str, Any]) -> None:
    """Put the units together and say where the table is."""
    table = assemble(
        table_problem(arguments),
        load_card(arguments.checkpoint),
        [Condition.parse(text) for text in arguments.conditions],
        {"search": arguments.search_images, "test": arguments.test_images},
        settings,
        arguments.run,
    )
    card = save_table(arguments.output, table).card
    size = (arguments.output / f"{card.name}.safetensors").stat().st_size
    print(f"{arguments.output / card.name}.safetensors  {size / 2**20:.1f} MiB  {card.sha256}")


_prepared: dict[str, tuple[TableArguments, NetworkProblem]] = {}


def _prepare(arguments: TableArguments) -> None:
    """Make the problem once in each worker."""
    torch.set_num_threads(1)
    problem = table_problem(arguments)
    problem.quantized.to(arguments.device)
    _prepared["here"] = arguments, problem


def _evaluate(unit: Unit) -> None:
    arguments, problem = _prepared["here"]
    images = {"search": arguments.search_images, "test": arguments.test_images}
    save_unit(arguments.run, unit, evaluate_unit(problem, unit, images))


def main(words: list[str] | None = None) -> None:
    """Entry point of ``python -m dqmq_env.problem.build_table``."""
    arguments = tyro.cli(TableArguments, description=__doc__, args=words)
    with one_line_errors("build_table"):
        settings = asdict(arguments)
        for name in ("run", "shard", "processes", "device", "output"):
            del settings[name]
        claim_run_folder(arguments.run, settings)
        evaluate_units(arguments)
        if arguments.shard == "0/1":
            write_table(arguments, settings)


if __name__ == "__main__":
    main()
