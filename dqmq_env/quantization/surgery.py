"""Exchange parts of a network, and put it into eval mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


def replace_module(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` in the place of ``old``, under every name that ``old`` has in ``network``.

    Args:
        network: changed in place; not ``old`` itself.
        old: a module inside it.
        new: may contain ``old``.
    """
    names = [name for name, part in network.named_modules(remove_duplicate=False) if part is old]
    for name in names:
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, new)


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards every part has the mode that it had before."""
    modes = {part: part.training for part in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
