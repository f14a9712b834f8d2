"""Exchange parts of a network."""

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
