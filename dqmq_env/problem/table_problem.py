"""A problem whose every answer was computed beforehand; free of torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dqmq_env.costs import COSTS, Cost, as_costs, cost_by_name, fraction, layer_table
from dqmq_env.errors import AssignmentError, BudgetError, TableError
from dqmq_env.problem.fronts import pareto
from dqmq_env.problem.protocol import Outcome, Rollout
from dqmq_env.problem.quality_value import QualityValue, value_of_quality
from dqmq_env.problem.table import SPLITS, Table
from dqmq_env.problem.table_answers import answers_of
from dqmq_env.problem.table_rollout import TableRollout
from dqmq_env.quality.condition import Condition
from dqmq_env.quality.mixture import Conditions, Mixture, as_mixture
from dqmq_env.quantization.assignment import BitAssignment, LayerBits
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.task.budget import ROUNDING
from dqmq_env.task.task import Task


@dataclass(frozen=True)
class Optimum:
    """The best assignment of a task under a condition, on ``search``.

    Attributes:
        assignment: which.
        reward: what the task gives for it.
        accuracy: top-1 on ``search``, in [0, 1].
        costs: fractions of those at 8 bits.
    """

    assignment: BitAssignment
    reward: float
    accuracy: float
    costs: dict[str, float]


@dataclass(frozen=True)
class FrontPoint:
    """An assignment that no other beats in both accuracy and cost.

    Attributes:
        assignment: which.
        accuracy: top-1 on ``search``, in [0, 1].
        cost: as a fraction of that at 8 bits.
    """

    assignment: BitAssignment
    accuracy: float
    cost: float


class TableProblem:
    """The problem of a table: all assignments of its network, joint bits alone.

    Its one batch is the whole of the ``search`` images that the table was made with.

    Args:
        table: all answers.
        conditions: those that occur, or a mapping of conditions to weights; all of the table,
            equally often, when left out.
        costs: those that rewards and budgets may be about.

    Raises:
        TableError: a condition is not in the table.
        SettingError: two costs share a name.
    """

    def __init__(
        self,
        table: Table,
        conditions: Conditions | None = None,
        costs: Sequence[Cost] = COSTS,
    ) -> None:
        self.table = table
        self.costs = as_costs(costs)
        card = table.card
        self._specs = card.specs
        names = [spec.name for spec in self._specs]
        widths = [tuple(own) for own in card.candidates]
        self._candidates = dict(zip(names, widths, strict=True))
        self._decided = [name for name in names if len(self._candidates[name]) > 1]
        self._rows = {Condition.parse(text): row for row, text in enumerate(card.conditions)}
        self.mixture: Mixture = as_mixture(card.conditions if conditions is None else conditions)
        for condition in self.mixture.conditions:
            self.row(condition)

    @property
    def layers(self) -> Sequence[LayerSpec]:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self._specs

    @property
    def candidates(self) -> Mapping[str, tuple[int, ...]]:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self._candidates

    @property
    def activation_candidates(self) -> Mapping[str, tuple[int, ...]]:
        """See :class:`~dqmq_env.problem.protocol.Problem`; those of the weights."""
        return self._candidates

    @property
    def batches(self) -> int:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return 1

    @property
    def batch_images(self) -> int:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return self.table.card.images["search"]

    @property
    def count(self) -> int:
        """Number of assignments."""
        return int(np.prod([len(self._candidates[name]) for name in self._decided]))

    def row(self, condition: Condition | str) -> int:
        """The place of a condition in the table.

        Raises:
            TableError: it is not there.
        """
        parsed = Condition.parse(condition)
        if parsed not in self._rows:
            raise TableError(
                f"condition: {parsed} is not in the table, there are {self.table.card.conditions}"
            )
        return self._rows[parsed]

    def index(self, assignment: BitAssignment) -> int:
        """The place of an assignment in the table.

        Raises:
            AssignmentError: a layer is missing or unknown, or bits are not in the table.
        """
        if set(assignment) != set(self._candidates):
            raise AssignmentError(
                f"assignment: got layers {list(assignment)}, allowed are {list(self._candidates)}"
            )
        for name, widths in self._candidates.items():
            bits = assignment[name]
            if bits.weight != bits.activation or bits.weight not in widths:
                raise AssignmentError(
                    f"{name}: got {tuple(bits)} bits, the table has the widths {list(widths)}, the "
                    "same for weights and activations"
                )
        chosen = np.array([[assignment[name].weight for name in self._candidates]])
        return int(self.places(chosen)[0])

    def places(self, bits: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places in the table of assignments given by the bits of their layers.

        Args:
            bits: candidates of each layer in forward order, shape (N, layers).
        """
        places = np.zeros(len(bits), np.int64)
        for own, widths in zip(bits.T, self._candidates.values(), strict=True):
            places = places * len(widths) + np.searchsorted(widths, own)
        return places

    def assignment(self, index: int) -> BitAssignment:
        """The assignment at a place in the table.

        Raises:
            AssignmentError: there is no such place.
        """
        if not 0 <= index < self.count:
            raise AssignmentError(f"index: got {index}, allowed are 0 to {self.count - 1}")
        bits: dict[str, tuple[int, int]] = {}
        for name in reversed(self._candidates):
            widths = self._candidates[name]
            index, place = divmod(index, len(widths))
            bits[name] = widths[place], widths[place]
        return BitAssignment({name: bits[name] for name in self._candidates})

    def weight_error(self, name: str) -> NDArray[np.float64]:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return np.array(self.table.arrays["weight_error"][self._decided.index(name)])

    def activation_error(self, name: str) -> NDArray[np.float64]:
        """See :class:`~dqmq_env.problem.protocol.Problem`.

        Raises:
            TableError: always: the table has joint decisions alone.
        """
        raise TableError("decisions: the table has joint decisions alone")

    def start(self, conditions: Sequence[Condition], batches: Sequence[int]) -> Rollout:
        """See :class:`~dqmq_env.problem.protocol.Problem`."""
        return TableRollout(self, conditions)

    def evaluate(
        self, assignment: BitAssignment, condition: Condition | str, split: str = "search"
    ) -> Outcome:
        """Accuracy and loss on a split, arrays of shape (1,).

        Args:
            assignment: bits of every layer.
            condition: what the images go through first.
            split: ``search``, or ``test`` for a final report.

        Raises:
            AssignmentError: the bits are not in the table.
            TableError: the condition or the split is not in the table.
        """
        if split not in SPLITS:
            raise TableError(f"split: got {split!r}, allowed are {SPLITS}")
        return self.table.outcome(split, [self.row(condition)], [self.index(assignment)])

    def cost(self, assignment: BitAssignment) -> dict[str, float]:
        """Each cost as a fraction of that at 8 bits."""
        return {cost.name: fraction(cost, self._specs, assignment) for cost in self.costs}

    def cost_of_all(self, cost: str | Cost) -> NDArray[np.float64]:
        """A cost of every assignment, as a fraction of that at 8 bits, shape (N,).

        Args:
            cost: the name of one of the problem's, or any other.

        Raises:
            SettingError: the problem states none of that name.
        """
        model = cost_by_name(cost, self.costs) if isinstance(cost, str) else cost
        options = {
            layer: [LayerBits(width, width) for width in widths]
            for layer, widths in self._candidates.items()
        }
        totals = np.zeros(1)
        for own in layer_table(model, self._specs, options):
            totals = (totals[:, None] + own[None, :]).reshape(-1)
        return totals

    def rewards(self, condition: Condition | str, task: Task) -> NDArray[np.float64]:
        """What a task gives for every assignment; minus infinity beyond the budget, shape (N,)."""
        outcome = self.table.outcome("search", self.row(condition))
        costs = {cost.name: self.cost_of_all(cost) for cost in self.costs}
        allowed = self.cost_of_all(task.budget.cost) <= task.budget.fraction + ROUNDING
        return np.asarray(np.where(allowed, task.reward(outcome, costs), -np.inf))

    def optimum(self, condition: Condition | str, task: Task | None = None) -> Optimum:
        """The best assignment of a task; of several, the first in the table.

        Raises:
            BudgetError: no assignment keeps to the budget.
        """
        rewards = self.rewards(condition, task or Task())
        best = int(rewards.argmax())
        if rewards[best] == -np.inf:
            raise BudgetError("budget: no assignment of the table keeps to it")
        assignment = self.assignment(best)
        accuracy = float(self.evaluate(assignment, condition).accuracy[0])
        return Optimum(assignment, float(rewards[best]), accuracy, self.cost(assignment))

    def rank(
        self, assignment: BitAssignment, condition: Condition | str, task: Task | None = None
    ) -> int:
        """1 for an assignment that no other beats, and so on."""
        rewards = self.rewards(condition, task or Task())
        return 1 + int((rewards > rewards[self.index(assignment)]).sum())

    def regrets(self, condition: Condition | str, task: Task) -> NDArray[np.float64]:
        """0 at the optimum, 1 at the mean of all that keep to the budget, for each assignment.

        Infinite beyond the budget; 0 where all that keep to it are equally good. Shape (N,).
        """
        rewards = self.rewards(condition, task)
        kept = rewards > -np.inf
        best, mean = rewards.max(), rewards[kept].mean()
        span = best - mean if best > mean else 1.0
        return np.asarray(np.where(kept, (best - rewards) / span, np.inf))

    def regret(
        self, assignment: BitAssignment, condition: Condition | str, task: Task | None = None
    ) -> float:
        """That of one assignment; see :meth:`regrets`."""
        return float(self.regrets(condition, task or Task())[self.index(assignment)])

    def pareto_front(self, condition: Condition | str, cost: str = "bops") -> list[FrontPoint]:
        """The assignments that no other beats in both accuracy and cost, by ascending cost.

        Of several that are equal in both, the first in the table.
        """
        accuracy = self.table.outcome("search", self.row(condition)).accuracy
        costs = self.cost_of_all(cost)
        return [
            FrontPoint(self.assignment(int(i)), float(accuracy[i]), float(costs[i]))
            for i in pareto(costs, accuracy)
        ]

    def value_of_quality(
        self, budget: float, cost: str = "bops", criterion: str = "accuracy"
    ) -> QualityValue:
        """What it is worth to know the condition of the input under an average budget.

        Intervals need to know what single images become under the chosen assignments; the table
        knows that for its fronts under each condition and under all of them equally often, so that
        they may be missing for another mixture.

        Args:
            budget: on the average cost over the mixture, as a fraction of that at 8 bits.
            cost: name of the cost.
            criterion: ``accuracy`` or ``loss``, what is decided by on ``search``.

        Raises:
            BudgetError: no assignment keeps to the budget.
            SettingError: there is no such criterion.
        """
        return value_of_quality(answers_of(self, cost, criterion), budget)
