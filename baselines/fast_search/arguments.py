"""What ``dqmq search`` is told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from baselines.fast_search.settings import FastSettings
from dqmq_env.envs.network_arguments import NetworkArguments


@dataclass(frozen=True)
class Other:
    """Another searcher than the fast one.

    Attributes:
        agent: module:Class of a searcher, such as baselines.greedy:GreedySearch.
        agent_settings: its settings as JSON.
        evaluations: batches that it may evaluate for each budget.
        seed: of all that it draws.
    """

    agent: str | None = None
    agent_settings: str = "{}"
    evaluations: int = 2_000
    seed: int = 0


@dataclass(frozen=True)
class SearchArguments:
    """Which network, which budgets, and where to put what is found.

    Attributes:
        network: and images.
        train_images: images of a folder that quantisers are calibrated on, 500 by default.
        search_images: images that bits are judged on, 500 of a folder by default.
        budget: bounds on the cost, as fractions of that at 8 bits; one or several.
        sweep: this many budgets, even on a logarithmic scale, up to the largest --budget, beside
            those given.
        cost: size, bops, energy, memory or latency.
        latency_table: file of measured latencies, such as dqmq cost measure writes.
        weight_memory: where the energy has weights come from: sram on the chip, or dram.
        decisions: joint gives weights and activations of a layer the same bits.
        fast: how much the fast search looks at.
        other: another searcher in its place.
        run: folder of sensitivities, bits, table and picture.
        threads: CPU threads of torch; 0 leaves its own choice.
    """

    network: NetworkArguments = field(default_factory=NetworkArguments)
    train_images: int | None = None
    search_images: int | None = None
    budget: tuple[float, ...] = (0.5,)
    sweep: int = 0
    cost: str = "size"
    latency_table: str | None = None
    weight_memory: Literal["sram", "dram"] = "sram"
    decisions: Literal["joint", "separate"] = "joint"
    fast: FastSettings = field(default_factory=FastSettings)
    other: Other = field(default_factory=Other)
    run: Path = Path("runs/search")
    threads: int = 0
