"""The policy's 8-bit arithmetic."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.hybrid.eight_bits import rounded


@given(st.integers(0, 1000), st.floats(-6, 6))
def test_numbers_are_the_same_with_and_without_gradients(seed: int, exponent: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, generator=generator) * 10**exponent
    reach = x.abs().max()
    learned = rounded(x, reach)
    with torch.no_grad():
        assert torch.equal(rounded(x, reach), learned)
