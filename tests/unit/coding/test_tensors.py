"""Integer tensors: inverse for any magnitudes, lengths near the ideal, refusal of magnitudes float32 cannot hold."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitcert.coding import (
    MAX_MAGNITUDE,
    UNARY_MAGNITUDES,
    ArithmeticDecoder,
    ArithmeticEncoder,
    BitReader,
    BitWriter,
    blank,
    code_integers,
    integer_code_bits,
    marginal_bits,
    max_flags,
)
from bitcert.coding.arithmetic import Contexts
from bitcert.coding.tensors import Integers, marginal_nonzero_bits, nonzero_code_bits
from bitcert.errors import DecodeError
from tests.reference import coding_naive as naive
from tests.tools.counted import at_most

MAGNITUDES = [1, UNARY_MAGNITUDES, UNARY_MAGNITUDES + 1, UNARY_MAGNITUDES + 2, 1000, MAX_MAGNITUDE - 1, MAX_MAGNITUDE]
ENTRIES = st.one_of(
    st.just(0), st.integers(-3, 3), st.sampled_from(MAGNITUDES), st.integers(-MAX_MAGNITUDE, MAX_MAGNITUDE)
)


def section(values: Integers, contexts: Contexts | None = None) -> bytes:
    encoder, writer = ArithmeticEncoder(), BitWriter()
    assert code_integers(encoder, values, contexts).tolist() == values.tolist()
    writer.extend(encoder.bits())
    return writer.to_bytes()


def decode(data: bytes, num_values: int, contexts: Contexts | None = None) -> Integers:
    decoder = ArithmeticDecoder(BitReader(data))
    values = code_integers(decoder, blank(num_values), contexts)
    decoder.finish()
    return values


@settings(max_examples=30, deadline=None)
@given(values=hnp.arrays(np.int64, st.integers(0, 80), elements=ENTRIES), num_contexts=st.integers(0, 4))
def test_round_trip(values: Integers, num_contexts: int) -> None:
    contexts = np.arange(len(values), dtype=np.intp) % num_contexts if num_contexts else None
    decoded = decode(section(values, contexts), len(values), contexts)
    assert decoded.dtype == np.int64
    np.testing.assert_array_equal(decoded, values)


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("sign", [-1, 1])
def test_one_value_of_each_size(magnitude: int, sign: int) -> None:
    assert decode(section(np.array([sign * magnitude])), 1).tolist() == [sign * magnitude]


def test_heavy_tails_and_many_large_values() -> None:
    draws = np.random.default_rng(3).standard_cauchy(70_000) * 200
    values = np.clip(np.round(draws), -MAX_MAGNITUDE, MAX_MAGNITUDE).astype(np.int64)
    assert np.abs(values).max() > 10**6
    np.testing.assert_array_equal(decode(section(values), values.size), values)


def test_a_tensor_is_coded_in_row_order() -> None:
    values = np.arange(-6, 6).reshape(3, 4)
    assert section(values) == section(values.ravel())


@pytest.mark.parametrize("value", [MAX_MAGNITUDE + 1, -MAX_MAGNITUDE - 1, 1 << 62])
def test_encoder_refuses_larger_magnitudes(value: int) -> None:
    with pytest.raises(ValueError, match="magnitudes"):
        section(np.array([0, value]))


def forged(num_values: int, digits: int, tails: bool) -> bytes:
    """A section that claims ``num_values`` magnitudes of ``digits`` digits beyond the unary part."""
    encoder, writer, yes = ArithmeticEncoder(), BitWriter(), np.ones(num_values, dtype=bool)
    for _ in range(2 + UNARY_MAGNITUDES + digits - 1):
        encoder.flags(yes)
    if digits < 25:
        encoder.flags(~yes)
    if tails:
        encoder.raw(np.ones(num_values * (digits - 1), dtype=bool))
    writer.extend(encoder.bits())
    return writer.to_bytes()


@pytest.mark.parametrize("digits", [24, 25])
def test_decoder_refuses_larger_magnitudes(digits: int) -> None:
    with pytest.raises(DecodeError, match="steps"):
        decode(forged(2, digits, tails=True), 2)


def test_a_short_section_cannot_announce_endless_digits() -> None:
    num_values = 1 << 16
    data = forged(num_values, 25, tails=False)
    assert len(data) < 100
    tracemalloc.start()
    with at_most(100_000), pytest.raises(DecodeError, match="too early"):
        decode(data, num_values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80 * num_values


def test_many_values_just_above_the_unary_part_are_read_quickly() -> None:
    num_values = 1 << 16
    values = np.full(num_values, UNARY_MAGNITUDES + 1)
    np.testing.assert_array_equal(decode(section(values), num_values), values)


def rounded_normal(num_values: int, scale: float) -> Integers:
    draws = np.random.default_rng(num_values).standard_normal(num_values) * scale
    return np.clip(np.round(draws), -UNARY_MAGNITUDES, UNARY_MAGNITUDES).astype(np.int64)


@pytest.mark.parametrize("num_values", [0, 1, 50, 5000])
@pytest.mark.parametrize("scale", [0.1, 0.3, 1.0, 4.0])
def test_length_is_near_the_ideal(num_values: int, scale: float) -> None:
    values = rounded_normal(num_values, scale)
    encoder = ArithmeticEncoder()
    code_integers(encoder, values)
    ideal = integer_code_bits(values)
    assert 0.995 * ideal - 1 <= len(encoder.bits()) <= 1.005 * ideal + 6


LENGTHS = [np.zeros(0, dtype=np.int64), np.array([3]), np.array([0, 0, -1, 2, 0, 15, -15, 1]), rounded_normal(300, 2.0)]
LARGE = np.array([0, 15, 16, -16, 17, 400, 1, 0])


@pytest.mark.parametrize("values", [*LENGTHS, LARGE], ids=len)
def test_the_ideal_length_is_the_sum_over_all_flags(values: Integers) -> None:
    alive = values[values != 0]
    assert integer_code_bits(values) == pytest.approx(naive.integers(values), abs=1e-9)
    assert nonzero_code_bits(alive) == pytest.approx(naive.nonzero(alive), abs=1e-9)


@pytest.mark.parametrize("values", LENGTHS, ids=len)
def test_marginal_bits_of_entries_that_are_not_zero(values: Integers) -> None:
    alive = values[values != 0]
    found = marginal_nonzero_bits(alive)
    assert found.shape == (2 * UNARY_MAGNITUDES + 1,)
    assert found[UNARY_MAGNITUDES] == 0
    for entry in [*range(-UNARY_MAGNITUDES, 0), *range(1, UNARY_MAGNITUDES + 1)]:
        exact = naive.nonzero(np.append(alive, entry)) - naive.nonzero(alive)
        assert found[entry + UNARY_MAGNITUDES] == pytest.approx(exact, abs=1e-9)


def test_the_bytes_are_frozen() -> None:
    values = np.array([0, 1, -1, 0, 0, 2, 15, -16, 17, 0, -18, MAX_MAGNITUDE, 0, 0, 1, -300, 0, 5])
    assert section(values).hex() == "72d5e04b0ec914591dbabdad5cccae163f7e89b0"
    assert section(values, np.arange(18) % 3).hex() == "65cb718f6692a6ff6ac7430ce552d4f995f62240"


@pytest.mark.parametrize("num_values", [0, 1, 1 << 16])
def test_no_more_flags_than_announced(num_values: int) -> None:
    """Support, sign, 15 magnitudes, 24 questions for the digits and 24 digits."""
    assert max_flags(num_values) == (1 + 1 + 15 + 24 + 24) * num_values


def test_one_large_value_costs_twice_its_logarithm() -> None:
    values = np.zeros(1000, dtype=np.int64)
    without = len(section(values)) * 8
    values[500] = MAX_MAGNITUDE
    assert len(section(values)) * 8 - without < math.log2(1000) + 2 * 24 + 3 * UNARY_MAGNITUDES + 30


@pytest.mark.parametrize("scale", [0.1, 0.5, 3.0])
def test_marginal_bits_are_the_cost_of_one_more_entry(scale: float) -> None:
    values = rounded_normal(2000, scale)
    before, marginal = integer_code_bits(values), marginal_bits(values)
    assert marginal.shape == (2 * UNARY_MAGNITUDES + 1,)
    for entry in range(-UNARY_MAGNITUDES, UNARY_MAGNITUDES + 1):
        exact = integer_code_bits(np.append(values, entry)) - before
        assert marginal[entry + UNARY_MAGNITUDES] == pytest.approx(exact, abs=1e-6)
