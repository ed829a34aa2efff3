"""Elias codes and the bounded reader: inverses at every bit offset, lengths by formula, refusals."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitcert.coding.bitstream import MAX_INTEGER_DIGITS, BitReader, BitWriter
from bitcert.errors import DecodeError

LARGEST = (1 << MAX_INTEGER_DIGITS) - 1
POSITIVE = st.one_of(st.integers(1, 40), st.integers(1, LARGEST))
SIGNED = st.one_of(st.integers(-20, 20), st.integers(-(LARGEST // 2), LARGEST // 2))
CODES = {"elias_gamma": POSITIVE, "elias_delta": POSITIVE, "signed": SIGNED}


def codeword(code: str, value: int) -> str:
    writer = BitWriter()
    getattr(writer, code)(value)
    return "".join(map(str, writer.bits()))


def test_published_codewords() -> None:
    assert [codeword("elias_gamma", n) for n in range(1, 6)] == ["1", "010", "011", "00100", "00101"]
    assert [codeword("elias_delta", n) for n in (1, 2, 3, 4, 8, 16)] == [
        "1", "0100", "0101", "01100", "00100000", "001010000",
    ]  # fmt: skip
    assert [codeword("signed", n) for n in (0, 1, -1, 2, -2)] == ["1", "010", "011", "00100", "00101"]


@pytest.mark.parametrize("code", CODES)
@given(data=st.data(), offset=st.integers(0, 17))
def test_round_trip_at_every_offset(code: str, data: st.DataObject, offset: int) -> None:
    values = data.draw(st.lists(CODES[code], max_size=6))
    writer = BitWriter()
    writer.binary((1 << offset) - 1, offset)
    for value in values:
        getattr(writer, code)(value)
    reader = BitReader(writer.to_bytes())
    assert reader.binary(offset) == (1 << offset) - 1
    assert [getattr(reader, code)() for _ in values] == values
    assert reader.position == len(writer)
    reader.expect_end()


@given(value=POSITIVE)
def test_lengths(value: int) -> None:
    floor_log = value.bit_length() - 1
    assert len(codeword("elias_gamma", value)) == 2 * floor_log + 1
    assert len(codeword("elias_delta", value)) == floor_log + 2 * ((floor_log + 1).bit_length() - 1) + 1


@pytest.mark.parametrize("code", CODES)
def test_codewords_are_prefix_free(code: str) -> None:
    values = range(1, 3000) if code != "signed" else range(-1500, 1500)
    words = sorted(codeword(code, value) for value in values)
    assert len(set(words)) == len(words)
    assert not any(after.startswith(word) for word, after in pairwise(words))
    assert sum(Fraction(1, 1 << len(word)) for word in words) < 1


@given(data=st.binary(max_size=12), position=st.integers(0, 96), width=st.integers(0, 20))
def test_reader_agrees_with_the_string_of_bits(data: bytes, position: int, width: int) -> None:
    bits = "".join(f"{byte:08b}" for byte in data)
    position = min(position, len(bits))
    reader = BitReader(data)
    reader.position = position
    rest = "".join(f"{byte:08b}" for byte in reader.rest())
    padded = bits[position:].ljust(len(rest), "0")
    assert rest == padded
    rest_bytes = reader.rest()
    for count in (0, 1, width):
        assert reader.rest(count) == (rest_bytes[:count] + reader.rest(count)[count:])
        assert len(reader.rest(count)) == min(count + 1, len(rest_bytes))
        if 8 * count > len(bits) - position:
            with pytest.raises(DecodeError, match="too early"):
                reader.octets(count)
        else:
            assert reader.octets(count) == rest_bytes[:count]
            assert reader.position == position + 8 * count
        reader.position = position
    chosen = bits[position : position + width]
    if len(chosen) < width:
        with pytest.raises(DecodeError):
            reader.binary(width)
        return
    assert reader.binary(width) == int(chosen or "0", 2)
    reader.position = position
    reader.expect(np.array([int(bit) for bit in chosen], dtype=np.uint8))
    assert reader.position == position + width


def test_expect_refuses_another_bit_and_a_short_input() -> None:
    for bits, says in (([1, 0, 1, 1], "canonical"), ([1] * 9, "too early")):
        with pytest.raises(DecodeError, match=says):
            BitReader(b"\xa0").expect(np.array(bits, dtype=np.uint8))


def test_expect_end() -> None:
    reader = BitReader(b"\x80")
    reader.bit()
    reader.expect_end()
    for data, bits_read in ((b"\x81", 1), (b"\x80\x00", 1), (b"\x00", 0)):
        reader = BitReader(data)
        reader.binary(bits_read)
        with pytest.raises(DecodeError):
            reader.expect_end()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00" * 40, b"\x00" * 7 + b"\x01" + b"\xff" * 30])
def test_hostile_integers_are_refused(code: str, data: bytes) -> None:
    reader = BitReader(data)
    with pytest.raises(DecodeError):
        getattr(reader, code)()
    assert reader.position <= 2 * MAX_INTEGER_DIGITS


def test_gamma_ends_after_as_many_zeros_as_no_integer_has() -> None:
    for zeros in (MAX_INTEGER_DIGITS - 1, MAX_INTEGER_DIGITS):
        writer = BitWriter()
        writer.binary(0, zeros)
        writer.binary((1 << 63) - 1, 63)
        reader = BitReader(writer.to_bytes())
        if zeros < MAX_INTEGER_DIGITS:
            assert reader.elias_gamma() == LARGEST
        else:
            with pytest.raises(DecodeError, match="more than 62 digits"):
                reader.elias_gamma()


def test_delta_refuses_a_number_of_digits_beyond_the_limit() -> None:
    writer = BitWriter()
    writer.elias_gamma(MAX_INTEGER_DIGITS + 1)
    with pytest.raises(DecodeError):
        BitReader(writer.to_bytes() + b"\xff" * 30).elias_delta()


@pytest.mark.parametrize("code", ["elias_gamma", "elias_delta"])
@pytest.mark.parametrize("value", [0, -1, LARGEST + 1])
def test_writer_refuses_what_the_reader_would(code: str, value: int) -> None:
    with pytest.raises(ValueError, match="Elias"):
        getattr(BitWriter(), code)(value)


@pytest.mark.parametrize(("value", "width"), [(4, 2), (-1, 3), (1, 0)])
def test_binary_refuses_what_does_not_fit(value: int, width: int) -> None:
    with pytest.raises(ValueError, match="fit"):
        BitWriter().binary(value, width)
