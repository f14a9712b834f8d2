import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqmq_env.costs import Bops, Size, fraction
from dqmq_env.errors import BudgetError
from dqmq_env.quantization.assignment import BitAssignment
from dqmq_env.task.budget import Budget, Ledger

MakeStub = Callable[..., Any]
COSTS = [Size(), Bops()]
layers = st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 1000)), min_size=2, max_size=4)


def all_totals(stub: Any, cost: Any) -> dict[tuple[int, ...], float]:
    """The fraction that every assignment costs, by brute force."""
    names = list(stub.candidates)
    return {
        bits: fraction(
            cost,
            stub.layers,
            BitAssignment({n: (b, b) for n, b in zip(names, bits, strict=True)}),
        )
        for bits in itertools.product(*stub.candidates.values())
    }


@settings(max_examples=25)
@given(layers=layers, cost=st.sampled_from(COSTS), share=st.floats(0, 1), pin=st.booleans())
def test_a_choice_is_feasible_where_some_completion_keeps_to_the_budget(
    make_stub: MakeStub, layers: list[tuple[int, int]], cost: Any, share: float, pin: bool
) -> None:
    stub = make_stub(layers, pinned={0: 8} if pin else None)
    totals = all_totals(stub, cost)
    smallest = min(totals.values())
    budget = smallest + share * (1 - smallest)
    ledger = Ledger(stub, Budget(cost, budget))
    widths = list(stub.candidates.values())
    for depth in range(len(widths)):
        for start in itertools.product(*widths[:depth]):
            least = {
                bits: min(
                    t for chosen, t in totals.items() if chosen[: depth + 1] == (*start, bits)
                )
                for bits in widths[depth]
            }
            if min(least.values()) > budget + 1e-9:
                continue  # no episode comes here
            spent = sum(ledger.costs(i)[widths[i].index(bits)] for i, bits in enumerate(start))
            found = ledger.feasible(depth, np.array([spent]))[0]
            for k, bits in enumerate(widths[depth]):
                if abs(least[bits] - budget) > 1e-9:
                    assert found[k] == (least[bits] < budget)


@settings(max_examples=25)
@given(layers=layers, cost=st.sampled_from(COSTS), data=st.data())
def test_slack_runs_from_zero_to_one(
    make_stub: MakeStub, layers: list[tuple[int, int]], cost: Any, data: st.DataObject
) -> None:
    stub = make_stub(layers)
    totals = all_totals(stub, cost)
    low, high = min(totals.values()), max(totals.values())
    nothing = np.zeros(1)

    def slack(budget: float) -> float:
        return float(Ledger(stub, Budget(cost, budget)).slack(0, nothing)[0])

    assert slack(low) == pytest.approx(0, abs=1e-6)
    assert slack(high) == pytest.approx(1, abs=1e-6)
    assert slack(high + 1) == 1
    assert slack((low + high) / 2) == pytest.approx(0.5, abs=1e-6)
    # with the lowest bits so far the choices become freer, with the highest less free
    ledger = Ledger(stub, Budget(cost, data.draw(st.floats(low, high))))
    spent = ledger.costs(0)[[0, -1]]
    values = ledger.slack(1, spent)
    assert bool(((values >= 0) & (values <= 1)).all())
    assert values[0] >= values[1]


def test_slack_where_nothing_can_be_chosen(make_stub: MakeStub) -> None:
    ledger = Ledger(make_stub([(1, 1), (1, 1)], pinned={1: 8}), Budget(Size()))
    assert ledger.slack(1, np.array([0.1, 0.5])).tolist() == [1, 1]
    assert ledger.slack(2, np.array([1.0])).tolist() == [1]


@settings(max_examples=25)
@given(layers=layers, cost=st.sampled_from(COSTS))
def test_an_unreachable_budget_names_the_smallest_that_is_reachable(
    make_stub: MakeStub, layers: list[tuple[int, int]], cost: Any
) -> None:
    stub = make_stub(layers, bits=(3, 5), pinned={0: 8})
    smallest = min(all_totals(stub, cost).values())
    with pytest.raises(BudgetError, match=cost.name) as caught:
        Ledger(stub, Budget(cost, smallest * 0.99))
    named = float(re.findall(r"\d+\.\d+", str(caught.value))[-1])
    assert named == pytest.approx(smallest, abs=2e-6)
    Ledger(stub, Budget(cost, named))
    Ledger(stub, Budget(cost, smallest))


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), float("-inf")])
def test_senseless_budgets_are_refused(make_stub: MakeStub, budget: float) -> None:
    with pytest.raises(BudgetError, match="smallest reachable"):
        Ledger(make_stub([(1, 1), (1, 1)]), Budget(Size(), budget))
