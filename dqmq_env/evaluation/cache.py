"""Recent forward passes, kept within a bound on memory."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Any, Generic, Protocol, TypeVar

import torch

from dqmq_env.errors import SettingError


class Holder(Protocol):
    """A pass that waits for the bits of its next layer, or has ended."""

    def held(self) -> Iterable[Any] | None:
        """What it keeps in memory; ``None`` where nothing is gained by keeping it."""
        ...


KeyType = TypeVar("KeyType", bound=Hashable)
PassType = TypeVar("PassType", bound=Holder)


class PauseCache(Generic[KeyType, PassType]):
    """Keeps the most recently used pauses whose tensors fit into ``capacity`` bytes.

    Tensors that several pauses hold are counted once for each, so that the bound holds in any case.

    Args:
        capacity: bytes; 0 keeps nothing.

    Raises:
        SettingError: ``capacity`` is negative.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 0:
            raise SettingError(f"capacity: got {capacity}, allowed are 0 and more")
        self.capacity = capacity
        self.used = 0
        self._kept: OrderedDict[KeyType, tuple[PassType, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: KeyType) -> PassType | None:
        """The pause of that key, which thereby becomes the most recent, or ``None``."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def put(self, key: KeyType, pause: PassType) -> None:
        """Keep a pause, and let go of the least recently used ones where space runs out."""
        held = pause.held()
        if held is None:
            return
        size = sum(tensor.untyped_storage().nbytes() for tensor in _tensors(held))
        if key in self._kept or size > self.capacity:
            return
        self._kept[key] = (pause, size)
        self.used += size
        while self.used > self.capacity:
            _, (_, freed) = self._kept.popitem(last=False)
            self.used -= freed


def _tensors(values: Iterable[Any]) -> list[torch.Tensor]:
    """The tensors among the values, and in tuples and lists of them."""
    found = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += _tensors(value)
    return found
