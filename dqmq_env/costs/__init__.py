"""What an assignment costs; free of torch."""

from dqmq_env.costs.cost import (
    COSTS,
    Bops,
    Cost,
    Size,
    cost_by_name,
    fraction,
    layer_table,
    reference,
    total,
)

__all__ = [
    "COSTS",
    "Bops",
    "Cost",
    "Size",
    "cost_by_name",
    "fraction",
    "layer_table",
    "reference",
    "total",
]
