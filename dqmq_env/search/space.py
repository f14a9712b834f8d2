"""The assignments of a problem that a task allows, as places among the options of each layer."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dqmq_env.errors import BudgetError
from dqmq_env.problem.protocol import Problem
from dqmq_env.quantization.assignment import BitAssignment, LayerBits
from dqmq_env.task.budget import ROUNDING, Ledger, pair_tables
from dqmq_env.task.decisions import plan_of
from dqmq_env.task.task import Task, check_costs

Places = NDArray[np.int64]
"""One place among the options of each decided layer, shape (layers,)."""


class Space:
    """What an assignment may be.

    An assignment is given by its places: for each decided layer an index into that layer's options,
    which are in the order of their bits, weights first.

    Args:
        problem: gives layers, candidates and costs.
        task: says which pairs of bits go together, and which budget holds.

    Attributes:
        names: of the layers that leave a choice, in forward order.
        options: the bits that each of them may get.
        costs: of each option, as a fraction of the whole network's budgeted cost at 8 bits.
        fixed: the same for all layers that leave no choice.
        budget: the bound on the sum.

    Raises:
        BudgetError: no assignment keeps to the budget.
        AssignmentError: no layer leaves a choice.
        SettingError: reward or budget are about a cost that the problem does not have.
    """

    def __init__(self, problem: Problem, task: Task) -> None:
        check_costs(task, problem)
        plan = plan_of(problem, task.decisions)
        Ledger(problem, task.budget, plan)  # refuses a budget that cannot be met
        self._layers = [spec.name for spec in problem.layers]
        self._only: dict[str, LayerBits] = {}
        self.names: list[str] = []
        self.options: list[tuple[LayerBits, ...]] = []
        self.costs: list[NDArray[np.float64]] = []
        self.fixed = 0.0
        self.budget = task.budget.fraction
        tables = pair_tables(task.budget.cost, problem, plan)
        for name, allowed, table in zip(self._layers, plan.allowed, tables, strict=True):
            weights, activations = problem.candidates[name], problem.activation_candidates[name]
            pairs = np.argwhere(allowed).tolist()
            options = tuple(LayerBits(weights[w], activations[a]) for w, a in pairs)
            costs = np.array([table[w, a] for w, a in pairs])
            if len(options) == 1:
                self._only[name] = options[0]
                self.fixed += float(costs[0])
                continue
            self.names.append(name)
            self.options.append(options)
            self.costs.append(costs)
        lowest = [float(costs.min()) for costs in self.costs]
        self._lowest_after = np.append(np.cumsum(lowest[::-1])[::-1], 0.0)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of options of each decided layer."""
        return tuple(map(len, self.options))

    def assignment(self, places: Sequence[int] | Places) -> BitAssignment:
        """The assignment at some places."""
        chosen = {
            name: options[place]
            for name, options, place in zip(self.names, self.options, places, strict=True)
        }
        return BitAssignment({name: self._only.get(name) or chosen[name] for name in self._layers})

    def places(self, assignment: BitAssignment) -> Places:
        """Where an assignment is.

        Raises:
            ValueError: its bits are no option.
        """
        pairs = zip(self.names, self.options, strict=True)
        return np.array([options.index(assignment[name]) for name, options in pairs])

    def cost(self, places: Sequence[int] | Places) -> float:
        """The budgeted cost, as a fraction of that at 8 bits."""
        own = zip(self.costs, places, strict=True)
        return self.fixed + float(sum(costs[place] for costs, place in own))

    def fits(self, places: Sequence[int] | Places) -> bool:
        """Whether the budget is kept."""
        return self.cost(places) <= self.budget + ROUNDING

    def narrowest(self) -> Places:
        """The cheapest option of every layer."""
        return np.array([costs.argmin() for costs in self.costs])

    def widest(self) -> Places:
        """The dearest option of every layer; it need not keep to the budget."""
        return np.array([costs.argmax() for costs in self.costs])

    def random(self, generator: np.random.Generator) -> Places:
        """One that keeps to the budget, drawn layer by layer in forward order.

        Each option that leaves the budget reachable is as likely: what an agent does that draws its
        actions from the environment's masks.
        """
        return self._walk(lambda _, feasible: int(generator.choice(np.flatnonzero(feasible))))

    def lowered(self, wanted: Sequence[int] | Places) -> Places:
        """Others in place of options that would make the budget unreachable, in forward order.

        The nearest in the order of options, the lower of two, as the environments do.
        """

        def nearest(layer: int, feasible: NDArray[np.bool_]) -> int:
            distance = np.abs(np.arange(len(feasible)) - wanted[layer])
            return int(np.where(feasible, distance, len(feasible)).argmin())

        return self._walk(nearest)

    def neighbours(self, places: Places) -> Iterator[Places]:
        """All that differ in one layer and keep to the budget, in forward order."""
        for layer, size in enumerate(self.sizes):
            for place in range(size):
                if place == places[layer]:
                    continue
                changed = places.copy()
                changed[layer] = place
                if self.fits(changed):
                    yield changed

    def uniform(self, bits: int) -> Places:
        """The widest options up to ``bits`` in every layer, for weights and activations.

        Raises:
            BudgetError: it does not keep to the budget.
        """
        found = []
        for options, costs in zip(self.options, self.costs, strict=True):
            fitting = [
                place
                for place, own in enumerate(options)
                if max(own.weight, own.activation) <= bits
            ] or [int(costs.argmin())]
            found.append(max(fitting, key=lambda place: (costs[place], place)))
        places = np.array(found)
        if not self.fits(places):
            raise BudgetError(f"bits: uniform {bits} bits do not keep to the budget {self.budget}")
        return places

    def uniforms(self) -> list[Places]:
        """Uniform bits of every width that keep to the budget, ascending, each once."""
        widths = {max(own.weight, own.activation) for options in self.options for own in options}
        found: list[Places] = []
        for bits in sorted(widths):
            try:
                places = self.uniform(bits)
            except BudgetError:
                break
            if not found or (places != found[-1]).any():
                found.append(places)
        return found or [self.narrowest()]

    def _walk(self, choose: Callable[[int, NDArray[np.bool_]], int]) -> Places:
        """Settle the layers in forward order, each among what leaves the budget reachable."""
        spent, places = self.fixed, []
        for layer, costs in enumerate(self.costs):
            feasible = spent + costs + self._lowest_after[layer + 1] <= self.budget + ROUNDING
            feasible[costs.argmin()] = True  # rounding must not say otherwise
            place = choose(layer, feasible)
            places.append(place)
            spent += float(costs[place])
        return np.array(places)
