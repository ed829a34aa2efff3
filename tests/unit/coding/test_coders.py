"""Entropy coders of arrays: round trip, self-delimiting, near the entropy, hostile bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bitcert.coding import (
    MAX_MAGNITUDE,
    ArithmeticDecoder,
    BitReader,
    BitWriter,
    codebook,
    coders,
    enumerative,
    max_flags,
)
from bitcert.coding.codebook import Codebook
from bitcert.coding.coders import CODER_BITS, CODERS, read_array, write_array
from bitcert.errors import DecodeError

SHAPES = array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=7)
VALUES = st.one_of(st.integers(-2, 2), st.sampled_from([-MAX_MAGNITUDE, 0, 0, 0, 7, MAX_MAGNITUDE]))
ARRAYS = SHAPES.flatmap(lambda shape: arrays(np.int64, shape, elements=VALUES))


def written(coder, integers):
    bits = BitWriter()
    coder.write(bits, integers)
    return bits


@pytest.mark.parametrize("number", sorted(CODERS))
@settings(max_examples=60, deadline=None)
@given(integers=ARRAYS, tail=st.binary(max_size=3))
def test_every_coder_returns_what_was_written_and_stops_there(number, integers, tail):
    coder = CODERS[number]
    if not coder.fits(integers):
        return
    bits = written(coder, integers)
    reader = BitReader(bits.to_bytes() + tail)
    again = coder.read(reader, integers.shape)
    assert again.dtype == np.int64
    assert again.shape == integers.shape
    assert np.array_equal(again, integers)
    assert reader.position == len(bits)


@settings(max_examples=60, deadline=None)
@given(integers=ARRAYS)
def test_the_shortest_coder_is_kept(integers):
    bits = BitWriter()
    write_array(bits, integers)
    lengths = [len(written(coder, integers)) for coder in CODERS.values() if coder.fits(integers)]
    assert len(bits) == CODER_BITS + min(lengths)
    assert np.array_equal(read_array(BitReader(bits.to_bytes()), integers.shape), integers)


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=60), shape=SHAPES)
def test_random_bits_are_an_array_or_a_decode_error(content, shape):
    try:
        integers = read_array(BitReader(content), shape)
    except DecodeError:
        return
    assert integers.shape == shape
    assert np.abs(integers).max(initial=0) <= MAX_MAGNITUDE


def test_of_equally_short_coders_the_first_is_kept(monkeypatch):
    monkeypatch.setattr(coders, "CODERS", {2: CODERS[0], 1: CODERS[0], 3: CODERS[0]})
    bits = BitWriter()
    write_array(bits, np.array([[3, 0, -1]]))
    assert BitReader(bits.to_bytes()).binary(CODER_BITS) == 2


@pytest.mark.parametrize(
    ("num_levels", "questions"),
    [
        (1, []),
        (2, [(0, [True])]),
        (3, [(1, [True]), (0, [True, False])]),
        (5, [(2, [True]), (1, [True, False]), (0, [True, True, False, False])]),
    ],
)
def test_a_bit_that_is_certain_is_not_asked(num_levels, questions):
    """Numbers below 5: after 1 comes 00, after 01 either, after 10 nothing."""
    assert [(depth, asked.tolist()) for depth, asked in codebook._questions(num_levels)] == questions


@pytest.mark.parametrize(("num_levels", "flags"), [(2, 1), (3, 2), (4, 2), (5, 3)])
def test_a_codebook_asks_as_many_flags_of_an_entry_as_its_levels_need(monkeypatch, num_levels, flags):
    asked = []

    class Watched(ArithmeticDecoder):
        def __init__(self, reader, max_flags):
            asked.append(max_flags)
            super().__init__(reader, max_flags)

    integers = np.resize(np.arange(num_levels), 40)
    bits = written(Codebook(), integers)
    monkeypatch.setattr(codebook, "ArithmeticDecoder", Watched)
    assert np.array_equal(Codebook().read(BitReader(bits.to_bytes()), (40,)), integers)
    assert asked == [40 * flags]


FEW = np.array([[5, 5, -90, 5, 0, 5], [0, 5, 5, 700, 5, 5], [5, 0, -90, 5, 5, 5], [5, 5, 5, 5, 0, 700]])
FROZEN = {
    0: "bcb2f436130d7f4a7f1c8cfdc55647d7c0",
    1: "aaad8d24252c55f2cc",
    2: "5e26bddcec6ad956b1f1e7",
    3: "600b53b4d14b7a7d440f13a4",
}


@pytest.mark.parametrize("number", sorted(CODERS))
def test_the_bytes_are_frozen(number):
    holes = FEW * (np.arange(6) % 4 > 0) * (np.arange(4) != 2)[:, None] * (FEW != 700) if number in (1, 2) else FEW
    assert written(CODERS[number], holes).to_bytes().hex() == FROZEN[number]


@pytest.mark.parametrize("num_levels", [1, 2, 3, 4, 5, 8, 9, 255, 256])
def test_a_codebook_of_any_number_of_levels(num_levels):
    """Also with the least number of entries that is worth it, one fewer of which is not."""
    levels = np.sort(np.random.default_rng(num_levels).choice(4000, num_levels, replace=False)) - 2000
    integers = np.resize(levels, 4 * num_levels)
    assert Codebook().fits(integers)
    assert not Codebook().fits(integers[:-1])
    bits = written(Codebook(), integers)
    assert np.array_equal(Codebook().read(BitReader(bits.to_bytes()), integers.shape), integers)
    inner = np.array([level for level in range(num_levels) if num_levels > 1])
    assert len(bits) < 16 * num_levels + 4 * num_levels * (1 + np.log2(num_levels)) + 8 + len(inner) / 2


def test_more_levels_than_a_codebook_has_are_not_offered_and_not_read():
    assert not Codebook().fits(np.resize(np.arange(257), 5000))
    assert not Codebook().fits(np.zeros(0, dtype=np.int64))
    for limit, fits in ((MAX_MAGNITUDE, True), (MAX_MAGNITUDE + 1, False)):
        assert Codebook().fits(np.resize([0, limit], 8)) is fits
        assert Codebook().fits(np.resize([0, -limit], 8)) is fits
    bits = BitWriter()
    bits.elias_delta(257)
    with pytest.raises(DecodeError, match="at most 256 levels"):
        Codebook().read(BitReader(bits.to_bytes() + bytes(900)), (5000,))


def test_layouts_are_offered_where_there_are_rows_and_zeros():
    layouts = CODERS[1]
    assert layouts.fits(np.eye(3, dtype=np.int64))
    for integers in (np.ones((2, 2)), np.array([0, 1]), np.zeros((0, 2))):
        assert layouts.fits(integers.astype(np.int64)) is False
    with pytest.raises(DecodeError, match="rows and columns"):
        layouts.read(BitReader(bytes(20)), (7,))


@pytest.mark.parametrize(
    ("number", "module", "most"),
    [
        (0, coders, max_flags(15)),
        (1, coders, max_flags(15) + 3 * 15),
        (2, enumerative, max_flags(15 + 3 + 5)),
        (3, codebook, 2 * 15),
    ],
)
def test_no_more_of_a_message_is_looked_at_than_the_array_can_take(monkeypatch, number, module, most):
    """Flags: one an entry, a row, a column and a filter at most; of a codebook of 4 levels two an entry."""
    asked = []

    class Watched(ArithmeticDecoder):
        def __init__(self, reader, max_flags):
            asked.append(max_flags)
            super().__init__(reader, max_flags)

    integers = np.resize([0, 1, 0, -7, 9], (3, 5))
    bits = written(CODERS[number], integers)
    monkeypatch.setattr(module, "ArithmeticDecoder", Watched)
    assert np.array_equal(CODERS[number].read(BitReader(bits.to_bytes()), (3, 5)), integers)
    assert asked == [most]


def test_a_codebook_costs_the_entropy_of_its_levels():
    rng = np.random.default_rng(0)
    levels, odds = np.array([-9000, -40, 0, 13, 2000]), np.array([0.1, 0.2, 0.5, 0.15, 0.05])
    integers = rng.choice(levels, size=20_000, p=odds)
    frequencies = np.unique(integers, return_counts=True)[1] / integers.size
    ideal = -integers.size * float(np.sum(frequencies * np.log2(frequencies)))
    assert len(written(Codebook(), integers)) <= 1.01 * ideal + 150
    assert len(written(CODERS[0], integers)) > 1.3 * ideal


def test_one_level_costs_almost_nothing():
    assert len(written(Codebook(), np.full(5000, -3))) < 12


@pytest.mark.parametrize(
    "levels", [[5, 5 + MAX_MAGNITUDE], [-MAX_MAGNITUDE - 1, 0]], ids=["highest too large", "lowest too large"]
)
def test_levels_beyond_the_limit_are_refused(levels):
    bits = BitWriter()
    bits.elias_delta(2)
    bits.signed(levels[0])
    bits.elias_delta(levels[1] - levels[0])
    with pytest.raises(DecodeError, match="levels of at most"):
        Codebook().read(BitReader(bits.to_bytes() + bytes(20)), (50,))


def test_more_levels_than_entries_are_refused():
    bits = BitWriter()
    bits.elias_delta(6)
    with pytest.raises(DecodeError, match="no more than entries"):
        Codebook().read(BitReader(bits.to_bytes() + bytes(20)), (5,))


def test_a_level_that_no_entry_takes_is_refused():
    bits = BitWriter()
    bits.elias_delta(2)
    bits.signed(1)
    bits.elias_delta(1)
    with pytest.raises(DecodeError, match="in use"):
        Codebook().read(BitReader(bits.to_bytes() + bytes(20)), (8,))


def test_an_unknown_coder_is_named(monkeypatch):
    monkeypatch.delitem(CODERS, 3)
    with pytest.raises(DecodeError, match="number 3"):
        read_array(BitReader(bytes([255])), (4,))
