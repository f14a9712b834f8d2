from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env.errors import SettingError
from dqmq_env.evaluation.cache import PauseCache


@dataclass
class Held:
    """A pause of a given size in bytes, in one tensor or in a tuple of two."""

    size: int
    halved: bool = False
    activation: Any = None
    logits: Any = None
    tensors: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        parts = [self.size // 2, self.size - self.size // 2] if self.halved else [self.size]
        made = tuple(torch.zeros(part, dtype=torch.uint8) for part in parts)
        self.tensors = [made] if self.halved else list(made)

    def held(self) -> list[Any]:
        return [*self.tensors, None, "text"]


@settings(max_examples=60)
@given(
    capacity=st.integers(0, 100),
    operations=st.lists(
        st.tuples(st.sampled_from(["put", "get"]), st.integers(0, 9), st.booleans()), max_size=60
    ),
)
def test_it_keeps_the_most_recent_within_its_bound(
    capacity: int, operations: list[tuple[str, int, bool]]
) -> None:
    """Against a model: a list of keys, the least recent first. A key's size is ten times itself."""
    cache: PauseCache[int] = PauseCache(capacity)
    model: list[int] = []
    made: dict[int, Held] = {}
    for operation, key, halved in operations:
        if operation == "get":
            found = cache.get(key)
            assert (found is not None) == (key in model)
            if found is not None:
                assert found is made[key]
                model.remove(key)
                model.append(key)
        elif key not in model and 10 * key <= capacity:
            made[key] = Held(10 * key, halved)
            cache.put(key, made[key])
            model.append(key)
            while 10 * sum(model) > capacity:
                model.pop(0)
        else:
            cache.put(key, Held(10 * key, halved))
        assert cache.used == 10 * sum(model) <= capacity
        assert len(cache) == len(model)


def test_a_view_counts_with_all_that_it_keeps_alive() -> None:
    cache: PauseCache[str] = PauseCache(1000)
    pause = Held(0)
    pause.tensors = [torch.zeros(400, dtype=torch.uint8)[:1]]
    cache.put("view", pause)
    assert cache.used == 400


def test_a_negative_bound_is_refused() -> None:
    with pytest.raises(SettingError, match="capacity: got -1"):
        PauseCache(-1)
