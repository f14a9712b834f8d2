"""What a search spends, counted where it is spent; free of torch."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from dqmq_env.costs import Cost
from dqmq_env.errors import SearchError
from dqmq_env.problem.protocol import Outcome, Problem, Rollout
from dqmq_env.quality.condition import Condition
from dqmq_env.quality.mixture import Mixture
from dqmq_env.quantization.assignment import BitAssignment, LayerBits
from dqmq_env.quantization.spec import LayerSpec


@dataclass(frozen=True)
class Spent:
    """What was asked of a problem.

    Attributes:
        evaluations: batches of ``search`` images that went through the network at some bits.
        images_evaluated: images of these batches, and further ones that were looked at.
        images_trained: images that a gradient was computed on.
    """

    evaluations: int = 0
    images_evaluated: int = 0
    images_trained: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        """Both together."""
        return Spent(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Trial:
    """One assignment that was evaluated.

    Attributes:
        spent: number of evaluations up to and with this one.
        condition: what the images went through.
        assignment: bits of every layer.
        accuracy: top-1 on these images, in [0, 1].
        loss: mean cross-entropy in nats.
    """

    spent: int
    condition: Condition
    assignment: BitAssignment
    accuracy: float
    loss: float


class MeteredProblem:
    """A problem that counts what it is asked, keeps a record of it, and refuses too much.

    Args:
        inner: answers.
        evaluations: how many it may be asked for; without bound when left out.

    Attributes:
        inner: the problem itself; what is asked of it directly is not counted, so a searcher that
            does so says what it spent by :meth:`count`.
        trials: all that was evaluated, in order.
    """

    def __init__(self, inner: Problem, evaluations: int | None = None) -> None:
        self.inner = inner
        self.limit = evaluations
        self.trials: list[Trial] = []
        self._spent = Spent()

    @property
    def spent(self) -> Spent:
        """What was asked so far."""
        return self._spent

    @property
    def left(self) -> float:
        """Number of evaluations that may still be asked for."""
        return float("inf") if self.limit is None else self.limit - self._spent.evaluations

    @property
    def layers(self) -> Sequence[LayerSpec]:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self.inner.layers

    @property
    def candidates(self) -> Mapping[str, tuple[int, ...]]:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self.inner.candidates

    @property
    def activation_candidates(self) -> Mapping[str, tuple[int, ...]]:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self.inner.activation_candidates

    @property
    def costs(self) -> tuple[Cost, ...]:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self.inner.costs

    @property
    def mixture(self) -> Mixture:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self.inner.mixture

    @property
    def batches(self) -> int:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self.inner.batches

    @property
    def batch_images(self) -> int:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self.inner.batch_images

    def weight_error(self, name: str) -> NDArray[np.float64]:
        """See :class:`~dqmq_env.problem.protocol.Problem`; it takes no images."""
        return self.inner.weight_error(name)

    def activation_error(self, name: str) -> NDArray[np.float64]:
        """See :class:`~dqmq_env.problem.protocol.Problem`; known from calibration."""
        return self.inner.activation_error(name)

    def cost(self, assignment: BitAssignment) -> dict[str, float]:
        """See :class:`~dqmq_env.problem.protocol.Problem`; it takes no images."""
        return self.inner.cost(assignment)

    def evaluate(
        self, assignment: BitAssignment, condition: Condition | str, split: str = "search"
    ) -> Outcome:
        """See :class:`~dqmq_env.problem.protocol.Problem`; counts one evaluation for each batch.

        Raises:
            SearchError: the split is not ``search``, or the evaluations are spent.
        """
        if split != "search":
            raise SearchError(f"split: got {split!r}, a search sees 'search' alone")
        self._check(self.batches)
        outcome = self.inner.evaluate(assignment, condition)
        self._spent += Spent(self.batches, self.batches * self.batch_images)
        self._record(Condition.parse(condition), assignment, outcome, 0, self._spent.evaluations)
        return outcome

    def start(self, conditions: Sequence[Condition], batches: Sequence[int]) -> Rollout:
        """See :class:`~dqmq_env.problem.protocol.Problem`; each pass counts at its outcome.

        That raises a SearchError where the evaluations are spent.
        """
        return _MeteredRollout(self, tuple(conditions), self.inner.start(conditions, batches))

    def count(self, spent: Spent) -> None:
        """Add what was spent elsewhere, such as gradients on training images.

        Raises:
            SearchError: the evaluations are spent.
        """
        self._check(spent.evaluations)
        self._spent += spent

    def finish(
        self,
        conditions: Sequence[Condition],
        assignments: Sequence[BitAssignment],
        outcome: Outcome,
    ) -> None:
        """Count and record passes that have ended.

        Raises:
            SearchError: the evaluations are spent.
        """
        self._check(len(conditions))
        before = self._spent.evaluations
        self._spent += Spent(len(conditions), len(conditions) * self.batch_images)
        for row, (condition, assignment) in enumerate(zip(conditions, assignments, strict=True)):
            self._record(condition, assignment, outcome, row, before + row + 1)

    def _check(self, evaluations: int) -> None:
        if evaluations > self.left:
            raise SearchError(
                f"evaluations: {self._spent.evaluations} of {self.limit} are spent, "
                f"{evaluations} more were asked for"
            )

    def _record(
        self,
        condition: Condition,
        assignment: BitAssignment,
        outcome: Outcome,
        row: int,
        spent: int,
    ) -> None:
        accuracy, loss = float(outcome.accuracy[row]), float(outcome.loss[row])
        self.trials.append(Trial(spent, condition, assignment, accuracy, loss))


class _MeteredRollout:
    """Passes that are counted when their outcome is asked for."""

    def __init__(
        self, problem: MeteredProblem, conditions: tuple[Condition, ...], inner: Rollout
    ) -> None:
        self._problem, self._conditions, self._inner = problem, conditions, inner
        self._bits: list[NDArray[np.int64]] = []
        self._outcome: Outcome | None = None

    @property
    def quality(self) -> NDArray[np.float32]:
        return self._inner.quality

    @property
    def images(self) -> NDArray[np.uint8]:
        return self._inner.images

    def activation(self) -> NDArray[np.float32]:
        return self._inner.activation()

    def choose(self, bits: NDArray[np.int64]) -> None:
        self._inner.choose(bits)
        self._bits.append(bits)

    def outcome(self) -> Outcome:
        if self._outcome is None:
            self._outcome = self._inner.outcome()
            names = [spec.name for spec in self._problem.layers]
            rows = np.stack(self._bits, 1).tolist()
            assignments = [
                BitAssignment(
                    {name: LayerBits(*bits) for name, bits in zip(names, row, strict=True)}
                )
                for row in rows
            ]
            self._problem.finish(self._conditions, assignments, self._outcome)
        return self._outcome
