from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.haq.actions import ActionMap
from dqmq_env.costs import Bops, Size
from dqmq_env.errors import BudgetError
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.problem.table import load_table
from dqmq_env.problem.table_problem import TableProblem
from dqmq_env.quantization.assignment import LayerBits
from dqmq_env.quantization.spec import LayerSpec
from dqmq_env.task.budget import Budget
from dqmq_env.task.decisions import SeparateDecisions
from dqmq_env.task.task import Task

TABLE = TableProblem(load_table("resnet8-fashion-mnist"))
MAPS = {
    fraction: ActionMap(TABLE, Task(budget=Budget(Bops(), fraction)))
    for fraction in (0.1, 0.2, 0.35, 0.6, 1.0)
}


def cost_of(actions: ActionMap, indices: Sequence[int]) -> float:
    cost = TABLE.cost(actions.assignment(indices))
    return cost["bops"]


def separate(problem: NetworkProblem, fraction: float, cost: object = None) -> ActionMap:
    budget = Budget(cost or Bops(), fraction)  # type: ignore[arg-type]
    return ActionMap(problem, Task(budget=budget, decisions=SeparateDecisions()))


@pytest.mark.parametrize(
    ("action", "bits"),
    [
        (0.0, 2),  # 1.5, to even
        (0.07, 2),  # 1.99
        (0.15, 3),  # 2.55
        (0.36, 4),  # 4.02
        (0.5, 4),  # round(5.0) = 5 is no candidate: the lower of 4 and 6
        (0.6, 6),  # 5.7
        (0.8, 6),  # round(7.1) = 7: the lower of 6 and 8
        (0.9, 8),  # 7.8
        (1.0, 8),  # 8.5, to even
    ],
)
def test_actions_are_mapped_as_haq_does(action: float, bits: int) -> None:
    assert MAPS[1.0].bits([MAPS[1.0].index(action)]) == [bits]


def test_the_middle_of_a_candidate_is_mapped_to_it() -> None:
    assert [MAPS[1.0].index(MAPS[1.0].action(index)) for index in range(5)] == list(range(5))
    assert MAPS[1.0].action(0) == pytest.approx(0.5 / 7)


@given(
    st.sampled_from(sorted(MAPS)),
    st.lists(st.integers(0, 4), min_size=6, max_size=6),
)
def test_the_walk_goes_from_last_to_first_and_stops_at_the_budget(
    fraction: float, chosen: list[int]
) -> None:
    actions = MAPS[fraction]
    lowered = actions.lowered(chosen)
    assert cost_of(actions, lowered) <= fraction + 1e-9
    steps = [before - after for before, after in zip(chosen, lowered, strict=True)]
    rounds = max(steps)
    if rounds == 0:
        assert lowered == chosen
        return
    # the walk ended at the foremost layer that was lowered in the last round
    end = steps.index(rounds)
    expected = [min(own, rounds - (number < end)) for number, own in enumerate(chosen)]
    assert steps == expected
    one_less = [own + (number == end) for number, own in enumerate(lowered)]
    assert cost_of(actions, one_less) > fraction


def test_activations_are_lowered_before_the_weights_of_their_layer(
    tiny_problem: NetworkProblem,
) -> None:
    full = [2] * 12  # 8 bits
    cost = tiny_problem.cost
    halved = cost(separate(tiny_problem, 1.0).assignment([*full[:-1], 1]))["bops"]
    both = cost(separate(tiny_problem, 1.0).assignment([*full[:-2], 1, 1]))["bops"]
    assert halved > both
    assert separate(tiny_problem, halved).lowered(full) == [*full[:-1], 1]
    assert separate(tiny_problem, both).lowered(full) == [*full[:-2], 1, 1]
    assert separate(tiny_problem, both - 1e-6).lowered(full) == [*full[:-3], 1, 1, 1]
    # what does not help is lowered too, as long as the budget does not hold
    size = separate(tiny_problem, 0.999, Size())
    assert size.lowered(full) == [*full[:-2], 1, 1]


def test_the_lowest_bits_are_reached_in_further_rounds(tiny_problem: NetworkProblem) -> None:
    lowest = separate(tiny_problem, 1.0).assignment([0] * 12)
    tight = separate(tiny_problem, tiny_problem.cost(lowest)["bops"] + 1e-9)
    assert tight.lowered([2, 1, 0] * 4) == [0] * 12
    with pytest.raises(BudgetError, match="budget"):
        separate(tiny_problem, 0.001)


def test_decisions_become_pairs_of_bits(tiny_problem: NetworkProblem) -> None:
    assignment = separate(tiny_problem, 1.0).assignment([0, 1, 2, 0, *[1] * 8])
    names = [spec.name for spec in tiny_problem.layers]
    assert assignment[names[0]] == assignment[names[-1]] == (8, 8)
    assert [tuple(assignment[name]) for name in names[1:4]] == [(2, 4), (8, 2), (4, 4)]


class _WideIsCheap:
    """As a kernel for 8 bits may be faster than one for 2."""

    name = "latency"

    def of(self, spec: LayerSpec, bits: LayerBits) -> float:
        return {2: 6.0, 4: 1.0, 8: 3.0}[bits.weight] + bits.activation


def test_a_cost_that_falls_with_bits_is_kept_to_as_well(tiny_problem: NetworkProblem) -> None:
    actions = separate(tiny_problem, 0.5, _WideIsCheap())
    for chosen in ([0] * 12, [2] * 12, [1, 0] * 6):
        lowered = actions.lowered(chosen)
        places = actions.space.places(actions.assignment(lowered))
        assert actions.space.fits(places)
    assert actions.bits(actions.lowered([0] * 12)) == [4, 2] * 6
    assert np.isclose(actions.space.cost(actions.space.narrowest()), (2 * 11 + 6 * 3) / 88)
