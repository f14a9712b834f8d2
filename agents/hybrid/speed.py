"""The second part of ``make bench``: what the hybrid agent costs beside fixed bits.

Writes ``benchmarks/HYBRID.md``. Networks, batches and threads are the same on both sides; a ratio
is the median over rounds of the quotient of two times taken one after the other.
"""

import ctypes
import gc
import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from agents.hybrid.agent import HybridAgent
from agents.hybrid.settings import PRESETS, HybridSettings
from dqmq_env.benchmark.row import Row, compare, middle
from dqmq_env.benchmark.speed import report
from dqmq_env.envs.single import BitWidthEnv
from dqmq_env.envs.zoo import ZooSetting
from dqmq_env.evaluation.deployed import StaticNetwork
from dqmq_env.files import atomic_write_text
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.progress import progress
from dqmq_env.quality.batches import MixedQualityBatches
from dqmq_env.training.loop import Schedule, Trainer
from dqmq_env.training.objective import StaticObjective

BATCH = 128
_BITS = (2, 3, 4)
_MIDDLE = 3
_BUDGET = 0.1194  # between two rungs of the ladder, so that images get both
_SCHEDULE = Schedule(images=BATCH * 1000, batch=BATCH)
_STEPS_FOR_MEMORY = 3
_DEPLOYED = 512
_ALIKE = 0.8
_DECIDED = 20.0
"""A fresh policy looks at images, and hardly minds; it is made to by so much."""
_AGENTS: Mapping[str, Mapping[str, Any]] = {
    "": PRESETS["by-layer"],
    ", by value": {
        **PRESETS["by-value"],
        "value_images": 2 * BATCH,
        "settle_images": 2 * BATCH,
    },
}
"""What is written after the name of the agent's decisions, and its settings: those of presets."""


def step_at_fixed_bits(problem: NetworkProblem) -> Callable[[], None]:
    """A training step at uniform bits by learned step sizes."""
    objective = StaticObjective(problem.uniform(_MIDDLE))
    return Trainer(problem, problem.trainable(), objective, _SCHEDULE).advance


def step_of_the_agent(problem: NetworkProblem, name: str = "") -> Callable[[], None]:
    """A training step of the hybrid agent; a whole batch shares its bits where batches do."""
    return _agent(problem, name).trainer.advance


def training_row(granularity: str, bar: str, rounds: int, name: str = "") -> Row:
    """A training step of the agent against one at fixed bits."""
    problem = _problem(granularity)
    what = f"a training step, bits for each {granularity}{name}, against one at {_MIDDLE} bits"
    step = step_of_the_agent(problem, name)
    return compare(what, bar, step, step_at_fixed_bits(problem), rounds)


def deployed_row(rounds: int, name: str = "") -> Row:
    """Images at bits of their own, looked at and decided about, against uniform bits."""
    problem = _problem("image")
    agent = _agent(problem, name)
    agent.trainer.advance()  # fits the values that images are told apart by
    with torch.no_grad():
        agent.policy.head.get_parameter("gain").mul_(_DECIDED)
    mixed = agent.deployed()
    fixed = StaticNetwork(problem.trainable(), problem.uniform(_MIDDLE), problem.normalize)
    images = MixedQualityBatches(problem.data.train, problem.mixture, _DEPLOYED, 0).at(0).images
    _require_mixed(mixed(images).bits)
    return compare(
        f"{_DEPLOYED} images through the deployed network, each at bits of its own{name}, "
        f"against {_MIDDLE} bits",
        "<= 1.15",
        lambda: mixed(images),
        lambda: fixed(images),
        rounds,
    )


def _require_mixed(bits: Tensor) -> None:
    """Refuse to measure images that have the same bits, shape (N, layers), in all layers."""
    shares = torch.stack([(bits == width).float().mean(0) for width in _BITS])
    if float(shares[:, :-1].amax(0).min()) > _ALIKE:
        raise RuntimeError(f"bench: in each layer {_ALIKE:.0%} of the images have the same bits")


def memory_row(granularity: str, rounds: int, name: str = "") -> Row:
    """What training steps take on top of a fresh process, against fixed bits."""
    found = [_peak(granularity, name) / _peak(granularity, None) for _ in range(min(rounds, 3))]
    return middle(f"memory of training steps, bits for each {granularity}{name}", "<= 1.5", found)


def peak_memory(granularity: str, name: str | None) -> int:
    """Bytes that a few training steps need for as long as they take; Linux alone tells.

    Args:
        granularity: of the problem.
        name: of the agent's decisions; fixed bits where it is ``None``.
    """
    torch.set_num_threads(1)
    problem = _problem(granularity)
    step = step_at_fixed_bits(problem) if name is None else step_of_the_agent(problem, name)
    step()  # what is made once, such as the state of the optimiser, is part of what stays
    before = _reset_peak()
    for _ in range(_STEPS_FOR_MEMORY):
        step()
    return _resident("VmHWM") - before


def _peak(granularity: str, name: str | None) -> int:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(peak_memory, granularity, name).result()


def _reset_peak() -> int:
    """Give back what is free and forget how much was resident before; returns what is now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def _resident(name: str) -> int:
    """A number of bytes that the kernel keeps about this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kilobytes) * 1024


def _agent(problem: NetworkProblem, name: str) -> HybridAgent:
    settings = HybridSettings(**{"budget": _BUDGET, "group": BATCH, **_AGENTS[name]})
    return HybridAgent(BitWidthEnv(problem), settings, _SCHEDULE, device="cpu")


def _problem(granularity: str) -> NetworkProblem:
    return ZooSetting(granularity=granularity, bits=_BITS).problem()


def main(rounds: int = 8, threads: int = 2, output: Path = Path("benchmarks/HYBRID.md")) -> None:
    """Measure and write the table.

    Args:
        rounds: pairs of times in each comparison.
        threads: of torch.
        output: the Markdown file.
    """
    torch.set_num_threads(threads)
    parts: list[Callable[[], Row]] = []
    for name in _AGENTS:
        for granularity, bar in (("batch", "<= 1.6"), ("image", "<= 2.5")):
            parts += [
                partial(training_row, granularity, bar, rounds, name),
                partial(memory_row, granularity, rounds, name),
            ]
        parts.append(partial(deployed_row, rounds, name))
    made = []
    with progress(len(parts), "bench", "row") as bar:
        for part in parts:
            made.append(part())
            bar.update()
    text = report(made, threads, rounds)
    output.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(output, text)
    print(text)


if __name__ == "__main__":
    tyro.cli(main)
