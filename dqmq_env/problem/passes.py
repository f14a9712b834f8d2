"""Forward passes over batches of images: recent ones are kept, others begin where one ended."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dqmq_env.evaluation.batch_pass import BatchPass
from dqmq_env.evaluation.cache import PauseCache
from dqmq_env.problem.pass_key import PassKey

if TYPE_CHECKING:
    from dqmq_env.problem.network_problem import NetworkProblem


class Passes:
    """Passes through the network of a problem.

    Args:
        problem: gives network and images.
        cache_bytes: bound on the memory of recent passes.

    Attributes:
        cache: recent passes.
    """

    def __init__(self, problem: "NetworkProblem", cache_bytes: int) -> None:
        self._problem = problem
        self.cache: PauseCache[PassKey, BatchPass] = PauseCache(cache_bytes)

    def begin(self, root: PassKey) -> BatchPass:
        """The pass of a batch up to the first layer."""
        kept = self.cache.get(root)
        if kept is None:
            kept = self._problem.walker.start(self._problem.normalize(self._problem.batch(root)[0]))
            self.cache.put(root, kept)
        return kept

    def descend(
        self, reached: BatchPass, known: PassKey, keys: Sequence[PassKey]
    ) -> dict[PassKey, BatchPass]:
        """Passes that go on from a common beginning.

        Args:
            reached: the beginning.
            known: its key.
            keys: where to; all of them are as many layers further on.
        """
        depth = len(known.bits)
        if len(keys) == 1:
            return {keys[0]: self._go_on(keys[0], reached, known)}
        if len(keys[0].bits) == depth + 1:
            return {key: self._advance(reached, key) for key in keys}
        ends = self._problem.walker.descend(reached, [key.bits[depth:] for key in keys])
        return {key: ends[key.bits[depth:]] for key in keys}

    def reach(self, key: PassKey) -> BatchPass:
        """The pass of a key, by way of the longest beginning that is at hand."""
        root = key._replace(bits=())
        return self._go_on(key, self.begin(root), root)

    def _advance(self, reached: BatchPass, key: PassKey) -> BatchPass:
        kept = self.cache.get(key)
        if kept is None:
            kept = self._problem.walker.advance(reached, key.bits[-1])
            self.cache.put(key, kept)
        return kept

    def _go_on(self, key: PassKey, reached: BatchPass, known: PassKey) -> BatchPass:
        """A pass that begins as a known one, by way of the longest beginning that is at hand."""
        depth = len(key.bits)
        while depth > len(known.bits):
            kept = self.cache.get(key._replace(bits=key.bits[:depth]))
            if kept is not None:
                reached = kept
                break
            depth -= 1
        at = key._replace(bits=key.bits[:depth])
        for bits in key.bits[depth:]:
            at = at.extended(bits)
            reached = self._advance(reached, at)
        return reached

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the passes at hand, which are made again when they are needed."""
        empty: PauseCache[PassKey, BatchPass] = PauseCache(self.cache.capacity)
        return {**self.__dict__, "cache": empty}
