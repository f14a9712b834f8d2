import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqmq_env.errors import ExportError
from dqmq_env.export import bit_packing
from dqmq_env.export.bit_packing import pack_bits, packed_bytes, unpack_bits


@st.composite
def integers_of_bits(draw: st.DrawFn) -> tuple[list[int], int, int]:
    bits = draw(st.integers(1, 8))
    low = draw(st.sampled_from([0, -(2 ** (bits - 1)), -(2**bits) + 1]))
    return draw(st.lists(st.integers(low, low + 2**bits - 1), max_size=70)), bits, low


@given(integers_of_bits(), st.sampled_from([8, 16, 2**20]))
def test_what_is_packed_comes_out_again(made: tuple[list[int], int, int], block: int) -> None:
    values, bits, low = made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bit_packing, "_BLOCK", block)
        packed = pack_bits(np.array(values, np.int16), bits, low)
        found = unpack_bits(packed, bits, len(values), low)
    assert packed.dtype == np.uint8
    assert len(packed) == packed_bytes(len(values), bits) == (len(values) * bits + 7) // 8
    assert found.tolist() == values


@given(integers_of_bits())
def test_the_bits_of_a_value_follow_those_of_the_one_before(
    made: tuple[list[int], int, int],
) -> None:
    values, bits, low = made
    stream = sum((value - low) << (bits * place) for place, value in enumerate(values))
    size = packed_bytes(len(values), bits)
    assert pack_bits(np.array(values, np.int64), bits, low).tobytes() == stream.to_bytes(
        size, "little"
    )


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_million_values_and_some(bits: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**bits, (2**20 + 13)).astype(np.int16)
    packed = pack_bits(values.reshape(1, -1), bits)
    assert np.array_equal(unpack_bits(packed, bits, values.size), values)


@pytest.mark.parametrize(("values", "bits", "low"), [([4], 2, 0), ([-1], 2, 0), ([-3], 2, -2)])
def test_a_value_that_does_not_fit_is_refused(values: list[int], bits: int, low: int) -> None:
    with pytest.raises(ExportError, match=r"values: got .*, allowed are"):
        pack_bits(np.array(values), bits, low)


@pytest.mark.parametrize("bits", [0, 9])
def test_a_width_that_is_none_is_refused(bits: int) -> None:
    with pytest.raises(ExportError, match="bits: got"):
        pack_bits(np.array([0]), bits)


def test_bytes_of_another_length_or_with_a_rest_are_refused() -> None:
    packed = pack_bits(np.array([1, 2, 3]), 3)
    with pytest.raises(ExportError, match=r"got shape \(2,\)"):
        unpack_bits(packed, 3, 6)
    packed[-1] |= 0x80
    with pytest.raises(ExportError, match="rest of the last byte"):
        unpack_bits(packed, 3, 3)
