"""Coder 2: every array comes back, lengths are the enumerative limits, hostile bits are refused."""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bitcert.coding import MAX_MAGNITUDE, UNARY_MAGNITUDES, ArithmeticEncoder, BitReader, BitWriter
from bitcert.coding import enumerative as module
from bitcert.coding.coders import CODERS
from bitcert.coding.enumerative import MAX_LINES, Enumerative, Mode, encode_mode
from bitcert.errors import DecodeError
from tests.reference.enumeration_naive import margin_bits, row_limit_bits, whole_limit_bits

CODER = Enumerative()
SHAPES = array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=6)
VALUES = st.one_of(st.just(0), st.integers(-2, 2), st.sampled_from([-MAX_MAGNITUDE, 16, -17, 700, MAX_MAGNITUDE]))
ARRAYS = SHAPES.flatmap(lambda shape: arrays(np.int64, shape, elements=VALUES))


def packed(bits: np.ndarray) -> bytes:
    return np.packbits(bits).tobytes()


def length(integers: np.ndarray) -> int:
    bits = BitWriter()
    CODER.write(bits, integers)
    return len(bits)


def sparse(seed: int, shape: tuple[int, int], uneven: float = 0.0) -> np.ndarray:
    """Ones and zeros; ``uneven`` spreads the density of rows and columns."""
    rng = np.random.default_rng(seed)
    rows, columns = np.exp(uneven * rng.normal(size=(shape[0], 1))), np.exp(uneven * rng.normal(size=shape[1]))
    return (rng.random(shape) < np.minimum(0.05 * rows * columns, 1)).astype(np.int64)


def test_it_is_coder_two():
    assert isinstance(CODERS[2], Enumerative)


@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=30, deadline=None)
@given(integers=ARRAYS, tail=st.binary(max_size=2))
@example(np.zeros((3, 4), dtype=np.int64), b"")
@example(np.full((2, 3), -MAX_MAGNITUDE, dtype=np.int64), b"\xff")
@example(np.eye(5, dtype=np.int64), b"\x01")
def test_every_array_comes_back_in_every_mode(mode, integers, tail):
    bits = encode_mode(integers, mode)
    reader = BitReader(packed(bits) + tail)
    again = CODER.read(reader, integers.shape)
    assert again.dtype == np.int64
    assert np.array_equal(again, integers)
    assert reader.position == len(bits)


def uneven() -> np.ndarray:
    """Full and empty rows and columns, counts of one to six digits, magnitudes below and above the unary part."""
    integers = sparse(3, (12, 70), 1.5) * np.random.default_rng(3).integers(1, 40, (12, 70))
    integers[4], integers[7, :40], integers[:, 9] = 0, -3, 2
    integers[1], integers[:, 30] = 1, 0
    return integers


FROZEN = {
    Mode.ROWS: (1955, "b82b038c27bbaf70"),
    Mode.COLUMNS: (2264, "a6ec476b10aef95e"),
    Mode.MARGINS: (1996, "f4291c557ec825db"),
}


@pytest.mark.parametrize("mode", list(Mode))
def test_the_bits_are_frozen(mode):
    bits = encode_mode(uneven(), mode)
    assert (len(bits), hashlib.sha256(packed(bits)).hexdigest()[:16]) == FROZEN[mode]


@settings(max_examples=15, deadline=None)
@given(integers=ARRAYS)
def test_the_shortest_mode_is_written(integers):
    assert length(integers) == min(len(encode_mode(integers, mode)) for mode in Mode)


def counts_bits(*counts: np.ndarray) -> int:
    """Bits that the counts alone take: an array whose supports are certain once the counts are known."""
    encoder = ArithmeticEncoder()
    for count in counts:
        module._code_counts(encoder, count)
    return len(encoder.bits())


def cell_bits(support: np.ndarray, mode: Mode, encoder: ArithmeticEncoder | None = None) -> int:
    """Bits that a mode takes for the cells alone."""
    encoder = encoder or ArithmeticEncoder()
    if mode is Mode.MARGINS:
        inside = module._code_by_margins(encoder, support, support.sum(1), support.sum(0))
    else:
        inside = module._code_by_rows(encoder, support, support.sum(1))
    assert np.array_equal(inside, support)
    return len(encoder.bits())


@pytest.mark.parametrize("seed", range(3))
def test_supports_of_rows_are_coded_at_their_enumerative_limit(seed):
    support = sparse(seed, (40, 60)) > 0
    support = support[:, support.any(0)]
    assert abs(cell_bits(support, Mode.ROWS) - row_limit_bits(support)) <= 2.1


def test_a_planted_bug_in_the_hypergeometric_law_would_be_seen():
    support = sparse(0, (40, 60)) > 0
    support = support[:, support.any(0)]
    limit = row_limit_bits(support)
    columns = iter(range(support.shape[1]))

    class WithReplacement(ArithmeticEncoder):
        def known(self, flags, probabilities):  # k_i / n instead of what is left of both
            left = support[:, next(columns) :]
            return super().known(flags, support.mean(1)[left.any(1) & ~left.all(1)])

    assert cell_bits(support, Mode.ROWS, WithReplacement()) > limit + 20


@pytest.mark.parametrize(("seed", "uneven"), [(0, 0.0), (1, 0.7), (2, 1.2)])
def test_the_margins_mode_is_its_slow_twin(seed, uneven):
    support = sparse(seed, (25, 30), uneven) > 0
    support = support[support.any(1)][:, support.any(0)]
    assert abs(cell_bits(support, Mode.MARGINS) - margin_bits(support)) <= 2.1


@pytest.mark.parametrize("seed", range(3))
def test_margins_beat_rows_where_columns_are_uneven_too(seed):
    integers = sparse(seed, (60, 80), 1.2)
    assert len(encode_mode(integers, Mode.MARGINS)) < 0.95 * len(encode_mode(integers, Mode.ROWS))
    assert length(integers) < whole_limit_bits(integers)


@pytest.mark.parametrize("mode", list(Mode))
def test_supports_that_the_margins_find_most_unlikely_come_back(mode):
    """A full row and a full column met last: odds beyond what a float64 probability can tell from 0 or 1."""
    support = np.zeros((90, 200), dtype=np.int64)
    support[-1], support[:, -1], support[0, 0] = 1, 1, 1
    for view in (support, support[::-1], support[:, ::-1]):
        integers = np.ascontiguousarray(view)
        assert np.array_equal(CODER.read(BitReader(packed(encode_mode(integers, mode))), integers.shape), integers)


def test_certain_flags_cost_nothing():
    full_rows = np.zeros((6, 9), dtype=np.int64)
    full_rows[2] = 1
    support = full_rows[2:3] > 0
    for mode in Mode:
        assert cell_bits(support, mode) == 0
    assert cell_bits(np.eye(1, dtype=bool), Mode.MARGINS) == 0


def test_counts_cost_about_their_entropy():
    counts = np.random.default_rng(0).poisson(20, 400)
    _, multiplicity = np.unique(counts, return_counts=True)
    entropy = -float(np.sum(multiplicity * np.log2(multiplicity / counts.size)))
    assert counts_bits(counts) < 1.12 * entropy


def test_magnitudes_beyond_the_limit_are_not_written():
    with pytest.raises(ValueError, match="not coded"):
        length(np.array([[0, MAX_MAGNITUDE + 1]]))
    with pytest.raises(ValueError, match="beyond the limits"):
        CODER.write(BitWriter(), np.zeros((0, 3), dtype=np.int64))


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((0,), False), ((3, 0), False), ((), False), ((2, 3), True), ((MAX_LINES, 1), False), ((64, 64), True)],
)
def test_what_it_offers_to_write(shape, fits):
    assert CODER.fits(np.zeros(shape, dtype=np.int64)) is fits


def test_dense_arrays_and_large_even_ones_are_left_to_others():
    assert CODER.fits(np.ones((20, 20), dtype=np.int64)) is False
    assert not CODER.fits(sparse(0, (100, 200)))
    assert CODER.fits(sparse(0, (100, 200), 1.0))
    assert CODER.fits(sparse(0, (20, 30)))


@pytest.mark.parametrize("shape", [(0, 2), (), (MAX_LINES, 2)])
def test_shapes_beyond_the_limits_are_refused(shape):
    with pytest.raises(DecodeError, match="limits of enumeration"):
        CODER.read(BitReader(b"\0" * 8), shape)


def test_the_unknown_mode_is_refused():
    with pytest.raises(DecodeError, match="mode"):
        CODER.read(BitReader(b"\xff"), (2, 2))


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=30), shape=SHAPES)
def test_random_bits_are_an_array_in_canonical_form_or_refused(content, shape):
    reader = BitReader(content)
    try:
        integers = CODER.read(reader, shape)
    except DecodeError:
        return
    mode = Mode(content[0] >> 6)
    bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8))[: reader.position]
    assert np.array_equal(bits, encode_mode(integers, mode))


def test_all_short_bit_strings_are_canonical_or_refused():
    """Exhaustive: what is read from any 9 bits is written as the same bits."""
    read = 0
    for bits in product((0, 1), repeat=9):
        array = np.array(bits, dtype=np.uint8)
        reader = BitReader(packed(array))
        try:
            integers = CODER.read(reader, (2, 2))
        except DecodeError:
            continue
        if reader.position <= len(bits):
            read += 1
            assert np.array_equal(encode_mode(integers, Mode(2 * bits[0] + bits[1])), array[: reader.position])
    assert read > 30


@pytest.mark.parametrize("mode", list(Mode))
def test_words_of_one_mode_are_a_prefix_code(mode):
    words = ["".join(map(str, encode_mode(np.array(v).reshape(2, 2), mode))) for v in product((-1, 0, 1, 2), repeat=4)]
    assert len(set(words)) == len(words)
    assert math.fsum(2.0 ** -len(word) for word in words) <= 1
    ordered = sorted(words)
    assert not any(b.startswith(a) for a, b in pairwise(ordered))


def forged(rows: list[int], columns: list[int], mode: Mode = Mode.MARGINS) -> bytes:
    """A message that states counts and then ends."""
    encoder, bits = ArithmeticEncoder(), BitWriter()
    module._code_counts(encoder, np.array(rows))
    if mode is Mode.MARGINS:
        module._code_counts(encoder, np.array(columns))
    else:
        encoder.flags(np.array(columns, dtype=bool))
    bits.binary(mode, 2)
    bits.extend(encoder.bits())
    return bits.to_bytes() + bytes(8)


@pytest.mark.parametrize(
    ("rows", "columns", "what"),
    [
        ([1, 1, 0], [1, 0, 0], "different sums"),
        ([3, 0, 0], [1, 1, 0], "line's length"),
        ([9000, 0, 0], [1, 1, 1], "line's length"),
        ([1, 1, 1, 1], [2, 3, 5, 0], "line's length"),
        ([4, 4, 1, 1], [4, 4, 1, 1], "contradict"),
    ],
)
def test_counts_that_no_support_has_are_refused(rows, columns, what):
    with pytest.raises(DecodeError, match=what):
        CODER.read(BitReader(forged(rows, columns)), (len(rows), len(columns)))


@pytest.mark.parametrize(
    ("excess", "refused"), [(0, False), (MAX_MAGNITUDE - 16, False), (MAX_MAGNITUDE - 15, True), (-1, True)]
)
def test_magnitudes_that_no_array_has_are_refused(excess, refused):
    encoder, bits = ArithmeticEncoder(), BitWriter()
    # a row in use, its count 1, a column in use, a positive entry, of more than 1, 2, ..., 15
    for flag in (True, False, True, True, *[True] * UNARY_MAGNITUDES):
        encoder.flags(np.array([flag]))
    module.code_integers(encoder, np.array([excess]))
    bits.binary(Mode.ROWS, 2)
    bits.extend(encoder.bits())
    if refused:
        with pytest.raises(DecodeError, match="magnitudes of at most"):
            CODER.read(BitReader(bits.to_bytes()), (1, 1))
    else:
        assert CODER.read(BitReader(bits.to_bytes()), (1, 1)).tolist() == [[16 + excess]]


def test_empty_columns_in_use_are_refused():
    with pytest.raises(DecodeError, match="every column in use"):
        CODER.read(BitReader(forged([1, 0], [1, 1, 1], Mode.ROWS)), (2, 3))


@pytest.mark.parametrize(("rows", "columns"), [(MAX_LINES - 2, 2), (2, MAX_LINES - 2), (1, MAX_LINES - 1)])
def test_as_many_lines_as_the_limit_allows_come_back(rows, columns):
    integers = np.zeros((rows, columns), dtype=np.int64)
    integers[-1, -1], integers[0, -1] = 5, -1
    assert module._within_limits(integers.shape)
    assert not module._within_limits((rows + 1, columns))
    bits = BitWriter()
    CODER.write(bits, integers)
    assert np.array_equal(CODER.read(BitReader(bits.to_bytes()), integers.shape), integers)


def test_counts_of_any_number_of_digits_come_back():
    powers = [1 << k for k in range(MAX_LINES.bit_length())]
    counts = np.array([0, *powers, *[power - 1 for power in powers], 3, 300, 0], dtype=np.int64)
    encoder, bits = ArithmeticEncoder(), BitWriter()
    module._code_counts(encoder, counts)
    bits.extend(encoder.bits())
    decoder = module.ArithmeticDecoder(BitReader(bits.to_bytes()))
    again = module._code_counts(decoder, np.zeros_like(counts))
    decoder.finish()
    assert again.tolist() == counts.tolist()


def test_a_quarter_of_the_cells_in_use_is_zero():
    integers = np.ones((8, 8), dtype=np.int64)
    for k in range(8):
        integers[k, k] = integers[k, k - 1] = 0
    assert CODER.fits(integers)
    integers[0, 0] = 1
    assert not CODER.fits(integers)


def half_full(counts: list[int], columns: int) -> np.ndarray:
    """Rows with these counts and columns that are as even as can be."""
    places = np.concatenate([np.arange(end - count, end) for count, end in zip(counts, np.cumsum(counts), strict=True)])
    integers = np.zeros((len(counts), columns), dtype=np.int64)
    integers[np.repeat(np.arange(len(counts)), counts), places % columns] = 1
    return integers


def test_large_arrays_are_worth_trying_when_their_counts_vary_more_than_by_chance():
    """Mean 50 of 100: a variance of 25 by chance, of which 1.25 times as much is not enough."""
    for rows, worth in ((50, False), (52, True)):
        counts = [44, 56] * (rows // 2) + [45, 55] * ((88 - rows) // 2)
        assert CODER.fits(half_full(counts, 100)) is worth
        assert CODER.fits(np.ascontiguousarray(half_full(counts, 100).T)) is worth
    assert CODER.fits(half_full([1024] * 2, 2048)), "of 4,096 entries, and as even as can be"
    assert not CODER.fits(half_full([1025] * 2, 2049))


@pytest.mark.parametrize(("counts", "length", "dispersion"), [([5, 5], 5, 0.0), ([0, 0], 5, 0.0), ([1, 3], 4, 1.0)])
def test_lines_that_chance_leaves_no_choice_have_no_dispersion(counts, length, dispersion):
    assert module._dispersion(np.array(counts), length) == dispersion


def test_work_is_bounded(monkeypatch):
    integers = np.ones((3, 3), dtype=np.int64)
    bits = packed(encode_mode(integers, Mode.MARGINS))
    integers[0, 0] = integers[1, 1] = integers[2, 2] = 0
    monkeypatch.setattr(module, "MAX_CELLS", 9)
    assert CODER.read(BitReader(bits), (3, 3)).all()
    assert CODER.fits(integers) is True
    monkeypatch.setattr(module, "MAX_CELLS", 8)
    with pytest.raises(DecodeError, match="at most 8"):
        CODER.read(BitReader(bits), (3, 3))
    assert CODER.fits(integers) is False


def test_a_vector_is_one_row():
    vector = np.array([0, 0, 1, 0, -2, 0, 0, 3, 0])
    for mode in Mode:
        assert np.array_equal(encode_mode(vector, mode), encode_mode(vector[None], mode))
    assert CODER.read(BitReader(packed(encode_mode(vector, Mode.ROWS))), (9,)).tolist() == vector.tolist()


def test_less_than_one_entry_a_line_can_be_uneven_too():
    integers = np.zeros((200, 100), dtype=np.int64)
    integers[::40, :8:2] = integers[20::40, 1:8:2] = 1
    assert CODER.fits(integers)


def test_what_is_too_large_for_this_coder_is_a_part_of_the_format() -> None:
    assert (module.MAX_LINES, module.MAX_CELLS) == (1 << 15, 1 << 22)
    rows = [3000] + [1] * 2047
    for num_columns, refusal in ((2048, "counts within a line's length"), (2049, "at most 4,194,304 entries in rows")):
        message = forged(rows, [1] * num_columns, Mode.ROWS)
        with pytest.raises(DecodeError, match=refusal):
            CODER.read(BitReader(message), (len(rows), num_columns))
