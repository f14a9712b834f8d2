"""Random numbers that depend on what they are for, not on what was drawn before.

Every draw of the library is seeded by a tuple such as ``(seed, "noise", step)``. A run that is
killed and resumed therefore needs no generator state: step 700 draws the same numbers whether or
not the 699 steps before it ran in the same process.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2**63) that is a stable hash of ``parts``, equal in every process.

    Args:
        parts: whatever names the purpose of the draw, e.g. ``(seed, "batch", step)``.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """A NumPy generator seeded by :func:`derive_seed`."""
    return np.random.default_rng(derive_seed(*parts))


def torch_generator(*parts: int | str) -> "torch.Generator":
    """A torch CPU generator seeded by :func:`derive_seed`; CPU, so that devices agree."""
    import torch

    return torch.Generator().manual_seed(derive_seed(*parts))
