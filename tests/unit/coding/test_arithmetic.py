"""Arithmetic sections: inverse, shortest, carries resolved, as short as the adaptive model promises."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln

from bitcert.coding import ArithmeticDecoder, ArithmeticEncoder, BitReader, BitWriter, adaptive_code_bits
from bitcert.coding.arithmetic import Contexts, Flags
from bitcert.errors import DecodeError

Job = tuple[str, Flags, Contexts | None]


def encode(jobs: list[Job]) -> ArithmeticEncoder:
    encoder = ArithmeticEncoder()
    for kind, flags, contexts in jobs:
        if kind == "raw":
            encoder.raw(flags)
        else:
            encoder.flags(flags, contexts)
    return encoder


def decode(reader: BitReader, jobs: list[Job]) -> list[Flags]:
    decoder = ArithmeticDecoder(reader)
    decoded = [
        decoder.raw(~flags) if kind == "raw" else decoder.flags(~flags, contexts) for kind, flags, contexts in jobs
    ]
    decoder.finish()
    return decoded


def assert_round_trip(sections: list[list[Job]], offset: int) -> None:
    writer = BitWriter()
    writer.binary(0, offset)
    for jobs in sections:
        writer.extend(encode(jobs).bits())
        writer.binary(2, 3)
    reader = BitReader(writer.to_bytes())
    reader.binary(offset)
    for jobs in sections:
        for (_, flags, _), decoded in zip(jobs, decode(reader, jobs), strict=True):
            np.testing.assert_array_equal(decoded, flags)
        assert reader.binary(3) == 2
    assert reader.position == len(writer)
    reader.expect_end()


@st.composite
def a_flag_array(draw: st.DrawFn) -> Flags:
    """Runs: the skewed and sudden sequences that stress an adaptive coder."""
    runs = draw(st.lists(st.tuples(st.booleans(), st.integers(1, 90)), max_size=8))
    noise = draw(st.lists(st.booleans(), max_size=40))
    return np.array([flag for flag, length in runs for _ in range(length)] + noise, dtype=bool)


@st.composite
def a_section(draw: st.DrawFn) -> list[Job]:
    jobs: list[Job] = []
    for kind in draw(st.lists(st.sampled_from(["raw", "plain", "contexts"]), max_size=3)):
        flags, contexts = draw(a_flag_array()), None
        if kind == "contexts":
            contexts = np.arange(len(flags), dtype=np.intp) * draw(st.integers(1, 5)) % draw(st.integers(1, 7))
        jobs.append((kind, flags, contexts))
    return jobs


@settings(max_examples=30, deadline=None)
@given(sections=st.lists(a_section(), min_size=1, max_size=4), offset=st.integers(0, 9))
def test_sections_in_a_row_at_any_bit_offset(sections: list[list[Job]], offset: int) -> None:
    assert_round_trip(sections, offset)


@pytest.mark.parametrize("offset", [0, 5])
def test_long_sequences(offset: int) -> None:
    n = 100_000
    places = np.arange(n)
    cases = [
        np.zeros(n, dtype=bool),
        np.ones(n, dtype=bool),
        places % 2 == 0,
        places < n // 2,
        places * 2654435761 % (1 << 32) < 1 << 28,
        places == n - 1,
    ]
    contexts = (places // 777).astype(np.intp)
    sections: list[list[Job]] = [[("plain", flags, None), ("contexts", flags, contexts)] for flags in cases]
    assert_round_trip(sections, offset)


class ExactInterval:
    """A range coder's interval in exact integers, for raw flags: what carries must amount to."""

    def __init__(self) -> None:
        self.low, self.width, self.digits = 0, (1 << 64) - 1, 64

    def put(self, flag: bool) -> None:
        half = (self.width >> 24) << 23
        self.low += half if flag else 0
        self.width = half
        if self.width < 1 << 32:
            self.low, self.width, self.digits = self.low << 32, self.width << 32, self.digits + 32

    def carry(self) -> Fraction | None:
        """The multiple of a word inside the interval, as a fraction of the whole, if there is one."""
        boundary = (self.low + self.width - 1) >> 64 << 64
        return Fraction(boundary, 1 << self.digits) if boundary > self.low else None

    def flag_towards(self, point: Fraction) -> bool:
        """The flag whose half holds ``point``."""
        return point * (1 << self.digits) >= self.low + ((self.width >> 24) << 23)

    def shortest(self) -> str:
        for length in range(self.digits + 1):
            step = 1 << (self.digits - length)
            value = -(-self.low // step)
            if (value + 1) * step <= self.low + self.width:
                return f"{value:0{length}b}" if length else ""
        raise AssertionError("no dyadic interval fits")


def near_carries() -> list[tuple[Flags, ExactInterval]]:
    """Flags that steer the interval to a word boundary and keep it there, so that a carry stays undecided for words."""
    cases = []
    rng = np.random.default_rng(1)
    while len(cases) < 400:
        exact, flags = ExactInterval(), []
        while exact.carry() is None:
            flags.append(bool(rng.integers(2)))
            exact.put(flags[-1])
        point, num_steps = exact.carry(), int(rng.integers(0, 150))
        assert point is not None
        for _ in range(num_steps):
            flags.append(exact.flag_towards(point))
            exact.put(flags[-1])
        for flag in rng.integers(0, 2, int(rng.integers(0, 3) * 20)).astype(bool):
            flags.append(bool(flag))
            exact.put(bool(flag))
        cases.append((np.array(flags, dtype=bool), exact))
    return cases


NEAR_CARRIES = near_carries()


def test_carries_are_resolved_as_in_exact_arithmetic() -> None:
    for flags, exact in NEAR_CARRIES:
        assert "".join(map(str, encode([("raw", flags, None)]).bits())) == exact.shortest()
        assert_round_trip([[("raw", flags, None)]], 3)
    assert sum(exact.carry() is not None for _, exact in NEAR_CARRIES) > 100


def test_rare_flags_around_carries() -> None:
    for flags, _ in NEAR_CARRIES:
        certain = np.full(len(flags), 1e-9)
        encoder = ArithmeticEncoder()
        encoder.raw(flags)
        encoder.known(np.zeros(len(flags), dtype=bool), certain)
        encoder.known(~flags, certain)
        writer = BitWriter()
        writer.extend(encoder.bits())
        decoder = ArithmeticDecoder(BitReader(writer.to_bytes()))
        np.testing.assert_array_equal(decoder.raw(~flags), flags)
        assert not decoder.known(~flags, certain).any()
        np.testing.assert_array_equal(decoder.known(flags, certain), ~flags)
        decoder.finish()


def test_a_section_without_flags_has_no_bits() -> None:
    assert len(ArithmeticEncoder().bits()) == 0
    assert len(encode([("plain", np.zeros(0, dtype=bool), None)]).bits()) == 0
    ArithmeticDecoder(BitReader(b"")).finish()


def test_an_all_zero_section_costs_half_a_logarithm() -> None:
    for n in (10, 1000, 100_000):
        assert len(encode([("plain", np.zeros(n, dtype=bool), None)]).bits()) <= math.log2(math.pi * n) / 2 + 2


def shuffled(num_flags: int, num_ones: int, seed: int) -> Flags:
    order = np.random.default_rng(seed).permutation(num_flags)
    return order < num_ones


LENGTHS = [(n, round(n * p)) for n in (1, 2, 10, 100, 1000, 20_000) for p in (0, 0.002, 0.05, 0.3, 0.5, 0.95, 1)]


@pytest.mark.parametrize(("num_flags", "num_ones"), LENGTHS)
def test_length_is_near_the_ideal_and_the_enumerative_limit(num_flags: int, num_ones: int) -> None:
    num_bits = len(encode([("plain", shuffled(num_flags, num_ones, num_flags + num_ones), None)]).bits())
    ideal = adaptive_code_bits(num_flags - num_ones, num_ones)
    assert 0.995 * ideal - 1 <= num_bits <= 1.005 * ideal + 4
    num_zeros = num_flags - num_ones
    enumerative = float(gammaln(num_flags + 1) - gammaln(num_ones + 1) - gammaln(num_zeros + 1)) / math.log(2)
    learning = math.log2((num_ones + 1) * (num_zeros + 1)) / 2 + math.log2(math.pi)
    assert ideal <= enumerative + learning
    assert num_bits <= 1.005 * (enumerative + learning) + 4


def test_contexts_learn_apart() -> None:
    contexts = np.arange(4000, dtype=np.intp) % 2
    flags = contexts == 1
    assert len(encode([("contexts", flags, contexts)]).bits()) <= 2 * math.log2(math.pi * 2000) / 2 + 4
    assert len(encode([("plain", flags, None)]).bits()) > 3900


def test_adaptive_code_bits_is_the_sequential_product() -> None:
    rng = np.random.default_rng(0)
    flags = rng.random(200) < 0.3
    bits, counts = 0.0, [0, 0]
    for flag in flags.astype(int):
        bits -= math.log2((2 * counts[flag] + 1) / (2 * sum(counts) + 2))
        counts[flag] += 1
    assert adaptive_code_bits(*counts) == pytest.approx(bits, rel=1e-12)
    assert adaptive_code_bits(np.array([3, 7]), np.array([5, 0])) == pytest.approx(
        adaptive_code_bits(3, 5) + adaptive_code_bits(7, 0)
    )


@pytest.mark.parametrize("position", [0, 8, 11])
def test_more_raw_flags_than_bits_are_refused_at_once(position: int) -> None:
    reader = BitReader(bytes(100))
    reader.binary(position)
    decoder = ArithmeticDecoder(reader)
    decoder.raw(np.zeros(799 - position, dtype=bool))
    with pytest.raises(DecodeError, match="too early"):
        decoder.raw(np.zeros(2, dtype=bool))
    with pytest.raises(DecodeError, match="too early"):
        decoder.require_raw(1 << 60)
    decoder.require_raw(1)
    decoder.raw(np.zeros(1, dtype=bool))


def test_no_more_of_a_long_message_is_looked_at_than_the_flags_can_take() -> None:
    class Watched(BitReader):
        def rest(self, max_bytes: int | None = None) -> bytes:
            asked.append(max_bytes)
            return super().rest(max_bytes)

    asked: list[int | None] = []
    ArithmeticDecoder(Watched(bytes(1000)), 5)
    ArithmeticDecoder(Watched(bytes(1000)))
    assert asked == [5 * 4 + 64, None]
