import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dqmq_env.data.ordering import balanced_order


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(0, 2**32))
def test_is_a_permutation_in_which_classes_take_turns(labels: list[int], seed: int) -> None:
    array = np.array(labels, dtype=np.uint8)
    order = balanced_order(array, seed)
    assert sorted(order) == list(range(len(labels)))
    smallest = min((labels.count(label) for label in set(labels)), default=0)
    classes = sorted(set(labels))
    assert array[order][: smallest * len(classes)].tolist() == classes * smallest


def test_seed_decides_which_images_come_first() -> None:
    labels = np.repeat(np.arange(10), 50)
    first = balanced_order(labels, 1)
    assert np.array_equal(first, balanced_order(labels, 1))
    assert not np.array_equal(first, balanced_order(labels, 2))


def test_order_is_the_same_on_every_machine() -> None:
    assert balanced_order(np.arange(12) % 3, seed=7).tolist() == [
        6,
        4,
        11,
        3,
        10,
        2,
        9,
        7,
        8,
        0,
        1,
        5,
    ]
