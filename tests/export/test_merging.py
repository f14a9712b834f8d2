"""One code for all widths of a weight."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dqmq_env.errors import ExportError
from dqmq_env.export import Policy, pack, restore
from dqmq_env.export.container import from_bytes
from dqmq_env.export.merging import merged, merged_bits, split
from dqmq_env.export.packed import encoded
from dqmq_env.problem.network_problem import NetworkProblem
from dqmq_env.quantization.grid import Grid, weight_grid
from dqmq_env.quantization.quantizers import quantize_to_codes
from dqmq_env.quantization.scheme_names import SCHEMES
from dqmq_env.zoo.resnet import CifarResNet

WIDTHS = st.sets(st.integers(1, 8), min_size=2).map(sorted)


def rounded(
    values: torch.Tensor, steps: dict[int, torch.Tensor], grids: dict[int, Grid]
) -> dict[int, torch.Tensor]:
    return {
        width: quantize_to_codes(values, steps[width][:, None], grid).to(torch.int8)
        for width, grid in grids.items()
    }


@given(WIDTHS, st.integers(0, 2**32 - 1), st.sampled_from(list(SCHEMES.values())), st.booleans())
def test_codes_of_common_values_are_merged_exactly(
    widths: list[int], seed: int, scheme: object, one_step: bool
) -> None:
    grids = {width: scheme.weight_grid(width) for width in widths}  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(5, 40, generator=generator)
    rows = 1 if one_step else 5
    steps = {width: torch.rand(rows, generator=generator) * 4 / 2**width + 1e-3 for width in widths}
    codes = rounded(values, steps, grids)
    found = merged(codes, steps, grids)
    assert found is not None
    assert found.max() < 2 ** merged_bits(grids)
    apart = split(found, steps, grids)
    for width in widths:
        assert apart[width].equal(codes[width])


@pytest.mark.parametrize(
    ("widths", "bits"), [((2, 3, 4), 5), ((2, 4), 5), ((2, 4, 8), 9), (range(1, 9), 9), ((1, 2), 3)]
)
def test_places_take_a_bit_more_than_the_widest(widths: Sequence[int], bits: int) -> None:
    assert merged_bits({width: weight_grid(width) for width in widths}) == bits


def test_codes_of_different_values_are_not_merged() -> None:
    grids = {width: weight_grid(width) for width in (2, 4)}
    steps = {2: torch.tensor([0.5]), 4: torch.tensor([0.125])}
    values, others = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0))
    codes = {2: rounded(values, steps, grids)[2], 4: rounded(others, steps, grids)[4]}
    assert merged(codes, steps, grids) is None


def test_a_place_beyond_the_last_is_refused() -> None:
    grids = {width: weight_grid(width) for width in (2, 4)}
    steps = {2: torch.tensor([0.5]), 4: torch.tensor([0.125])}
    for place in (-1, 19):
        with pytest.raises(ExportError, match="places"):
            split(np.full((1, 1), place), steps, grids)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_file_holds_trained_widths_in_one_code_a_weight(
    make_tiny_problem: Callable[..., NetworkProblem], name: str
) -> None:
    problem = make_tiny_problem((2, 3, 4))
    network = problem.trainable(SCHEMES[name])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in network.layers:  # as learned, not as calibrated
            noise = torch.randn(layer.weight_log_step.shape, generator=generator)
            layer.weight_log_step += 0.2 * noise
    packed = pack(network, network.options, problem.normalize, policy=Policy("mine/1"))
    header, tensors = from_bytes(encoded(packed), "mine")
    decided = [entry for entry in header["layers"] if len(entry["bits"]) > 1]
    assert decided
    assert all(entry["merged"] for entry in decided)
    weights = {spec.name: spec.weights for spec in network.specs}
    count = sum(
        -(-weights[entry["spec"][0]] * (5 if entry.get("merged") else 8) // 8)
        for entry in header["layers"]
    )
    assert len(tensors["codes"]) == count
    restored = restore(packed.network, CifarResNet(8, width=4))
    x = problem.normalize(problem.data.test.images[:4])
    folded = network.folded()
    with torch.no_grad():
        for bits in (2, 3, 4):
            assignment = network.uniform(bits)
            assert restored(x, assignment).equal(folded(x, assignment))
