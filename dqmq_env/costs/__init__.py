"""What an assignment costs; free of torch."""

from dqmq_env.costs.choice import costs_with
from dqmq_env.costs.cost import (
    COST_NAMES,
    COSTS,
    Bops,
    Cost,
    Size,
    as_costs,
    cost_by_name,
    fraction,
    layer_table,
    reference,
    total,
)
from dqmq_env.costs.energy import Energy
from dqmq_env.costs.latency import LatencyTable
from dqmq_env.costs.memory import Memory
from dqmq_env.costs.timing import Timing

__all__ = [
    "COSTS",
    "COST_NAMES",
    "Bops",
    "Cost",
    "Energy",
    "LatencyTable",
    "Memory",
    "Size",
    "Timing",
    "as_costs",
    "cost_by_name",
    "costs_with",
    "fraction",
    "layer_table",
    "reference",
    "total",
]
