"""The one rule that puts labelled images in a shuffled, class-balanced order."""

import numpy as np
from numpy.typing import NDArray


def balanced_order(labels: NDArray[np.integer], seed: int) -> NDArray[np.int64]:
    """A shuffled order that goes round the classes.

    Image i gets the i-th raw 64-bit number of `PCG64(seed)` as its key; inside each class images
    are sorted by key, and the classes then take turns in label order. Where all classes are
    equally large, every prefix of a multiple of the number of classes is perfectly balanced;
    otherwise smaller classes run out earlier. Raw numbers are used because numpy promises never
    to change them, which it does not for `Generator.permutation` (NEP 19).

    Args:
        labels: Integers (N,).
        seed: Seed of the shuffle.

    Returns:
        int64 (N,), a permutation of 0 to N - 1.
    """
    keys = np.random.PCG64(seed).random_raw(len(labels))
    shuffled = np.argsort(keys, kind="stable")
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        turn[members] = np.arange(len(members))
    return np.lexsort((labels, turn))
