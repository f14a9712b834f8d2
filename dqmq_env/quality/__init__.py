"""Image quality: conditions that lower it, mixtures of them, and descriptors that measure it.

Conditions, mixtures and the table of descriptors need numpy alone; `corrupt`, `corrupt_each` and
`describe` import torch when first used.
"""

from typing import TYPE_CHECKING

from dqmq_env.lazy import lazy_names
from dqmq_env.quality.condition import (
    CLEAN,
    CORRUPTION_NAMES,
    DEFAULT_CONDITIONS,
    DEFAULT_CORRUPTIONS,
    SEVERITIES,
    Condition,
)
from dqmq_env.quality.descriptor_table import (
    DESCRIPTOR_NAMES,
    DESCRIPTOR_TABLE,
    descriptor_bops,
    descriptor_operations,
)
from dqmq_env.quality.mixture import DEFAULT_MIXTURE, Mixture

if TYPE_CHECKING:
    from dqmq_env.quality.corruptions import corrupt, corrupt_each
    from dqmq_env.quality.descriptors import describe

__all__ = [
    "CLEAN",
    "CORRUPTION_NAMES",
    "DEFAULT_CONDITIONS",
    "DEFAULT_CORRUPTIONS",
    "DEFAULT_MIXTURE",
    "DESCRIPTOR_NAMES",
    "DESCRIPTOR_TABLE",
    "SEVERITIES",
    "Condition",
    "Mixture",
    "corrupt",
    "corrupt_each",
    "describe",
    "descriptor_bops",
    "descriptor_operations",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "corrupt": "dqmq_env.quality.corruptions",
        "corrupt_each": "dqmq_env.quality.corruptions",
        "describe": "dqmq_env.quality.descriptors",
    },
)
