"""Costs made from plain values; free of torch."""

from pathlib import Path

from dqmq_env.costs.cost import COST_NAMES, COSTS, Cost
from dqmq_env.costs.energy import Energy
from dqmq_env.costs.latency import LatencyTable
from dqmq_env.costs.memory import Memory
from dqmq_env.errors import SettingError


def costs_with(
    name: str, latency_table: str | Path | None = None, weight_memory: str = "sram"
) -> tuple[Cost, ...]:
    """Size and BOPs, the latency where there is a table of it, and the cost of that name.

    Args:
        name: one of :data:`~dqmq_env.costs.cost.COST_NAMES`.
        latency_table: path of a file, see :meth:`~dqmq_env.costs.latency.LatencyTable.load`.
        weight_memory: see :class:`~dqmq_env.costs.energy.Energy`.

    Raises:
        SettingError: there is no such cost or memory, or latency is asked for without a table.
        TableError: the table cannot be read.
    """
    counted: dict[str, Cost] = {"energy": Energy(weight_memory), "memory": Memory()}
    costs = COSTS if latency_table is None else (*COSTS, LatencyTable.load(latency_table))
    if name in counted:
        return (*costs, counted[name])
    if name == "latency" and latency_table is None:
        raise SettingError(
            "latency_table: got None, allowed with cost='latency' is the path of a table, such as "
            "`dqmq cost measure` writes"
        )
    if name not in COST_NAMES:
        raise SettingError(f"cost: got {name!r}, allowed are {list(COST_NAMES)}")
    return costs
