import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.hybrid.distribution import discretized_logistic

widths = st.lists(st.integers(1, 8), min_size=2, max_size=8, unique=True).map(sorted)
locations = st.floats(0.5, 8.5)
scales = st.floats(0.01, 5.0)


@given(widths, locations, scales)
def test_it_is_a_distribution(widths: list[int], location: float, scale: float) -> None:
    mass = discretized_logistic(torch.tensor([location]), torch.tensor(scale), widths)
    assert mass.shape == (1, len(widths))
    assert (mass >= 0).all()
    torch.testing.assert_close(mass.sum(1), torch.ones(1))


@given(widths, locations, scales, st.floats(0.1, 3.0))
def test_a_higher_location_shifts_mass_upwards(
    widths: list[int], location: float, scale: float, shift: float
) -> None:
    both = torch.tensor([location, location + shift])
    lower, higher = discretized_logistic(both, torch.tensor(scale), widths).cumsum(1)
    assert (higher <= lower + 1e-3).all()


@given(widths, locations)
def test_a_small_scale_leaves_the_nearest_width(widths: list[int], location: float) -> None:
    distances = [abs(width - location) for width in widths]
    first, second = sorted(distances)[:2]
    if second - first < 0.05:
        return
    mass = discretized_logistic(torch.tensor([location]), torch.tensor(1e-4), widths)
    assert mass[0, distances.index(first)] == 1


def test_masses_equal_the_logistic_function_between_midpoints() -> None:
    mass = discretized_logistic(torch.tensor([3.2]), torch.tensor(0.5), (2, 3, 4, 8))
    at = [1 / (1 + torch.exp(torch.tensor(-(m - 3.2) / 0.5))) for m in (2.5, 3.5, 6.0)]
    expected = torch.tensor([at[0], at[1] - at[0], at[2] - at[1], 1 - at[2]])
    torch.testing.assert_close(mass[0], expected, atol=1e-5, rtol=1e-4)


def test_gradients_agree_with_finite_differences() -> None:
    location = torch.tensor([2.7, 4.1], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)

    def masses(location: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return discretized_logistic(location, scale, (2, 3, 4, 5, 6))

    assert torch.autograd.gradcheck(masses, (location, scale))


@pytest.mark.parametrize("location", [0.0, 20.0])
def test_far_locations_stay_finite(location: float) -> None:
    mass = discretized_logistic(torch.tensor([location]), torch.tensor(0.01), (2, 3, 4))
    assert torch.isfinite(mass).all()
