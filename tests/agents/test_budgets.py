"""Ranges of budgets that one training learns."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.hybrid.budgets import BudgetRange

budgets = st.floats(0.01, 1.0)


@given(budgets, budgets, st.integers(1, 200), st.integers(0, 2**31))
def test_each_equal_part_of_the_range_has_a_budget_drawn(
    first: float, second: float, groups: int, seed: int
) -> None:
    known = BudgetRange(min(first, second), max(first, second))
    drawn = known.drawn(groups, torch.Generator().manual_seed(seed))
    assert drawn.shape == (groups,)
    share = (known.place(drawn.double()).sort().values + 1) / 2 * groups
    if known.lowest == known.highest:
        assert drawn.unique().tolist() == pytest.approx([known.highest])
    elif known.highest / known.lowest > 1.01:  # nearer to each other they round alike
        parts = torch.arange(groups)
        assert (share >= parts - 0.02).all()
        assert (share <= parts + 1.02).all()


@given(budgets, budgets, st.integers(2, 64), st.lists(budgets, min_size=1, max_size=5))
def test_a_budget_is_read_off_between_the_two_knots_next_to_it(
    first: float, second: float, count: int, asked: list[float]
) -> None:
    known = BudgetRange(min(first, second), max(first, second), count)
    shares = known.shares(torch.tensor(asked))
    assert shares.shape == (len(asked), len(known.knots))
    torch.testing.assert_close(shares.sum(1), torch.ones(len(asked)))
    assert ((shares > 0).sum(1) <= 2).all()


@pytest.mark.parametrize("place", range(8))
def test_a_knot_is_its_own_share(place: int) -> None:
    known = BudgetRange(0.05, 0.4)
    shares = known.shares(torch.tensor([known.knots[place]]))
    torch.testing.assert_close(shares[0], torch.eye(8)[place], atol=1e-5, rtol=0)
