"""The adaptive code of structured data: round trips, canonical bits, and what repetition costs."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitcert.coding import BitReader, BitWriter
from bitcert.coding.adaptive import Coder, Meter, Reader, Writer
from bitcert.errors import DecodeError

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
STEPS = st.one_of(
    st.tuples(st.just("flag"), st.sampled_from("ab"), st.booleans()),
    st.tuples(st.just("integer"), st.sampled_from("ab"), st.integers(0, 2**61 - 2)),
    st.tuples(st.just("signed"), st.sampled_from("ab"), st.integers(-(2**60) + 1, 2**60 - 1)),
    st.tuples(st.just("number"), st.sampled_from("ab"), FLOATS),
    st.tuples(st.just("octets"), st.sampled_from("ab"), st.binary(max_size=20)),
)


def play(coder, steps, values):
    found = []
    for (kind, context, _), value in zip(steps, values, strict=True):
        arguments = (context,) if value is None else (context, value)
        found.append(getattr(coder, kind)(*arguments))
    return found


def section(steps):
    writer = Writer()
    assert play(writer, steps, [value for *_, value in steps]) == [value for *_, value in steps]
    return writer.bits()


def read_back(bits, steps, tail=()):
    stream = BitWriter()
    stream.extend(bits)
    stream.extend(np.array(tail, np.uint8))
    source = BitReader(stream.to_bytes())
    reader = Reader(source)
    found = play(reader, steps, [None] * len(steps))
    reader.finish()
    assert source.position == len(bits), "the section ends where its bits do"
    return found


@given(st.lists(STEPS, max_size=30), st.lists(st.integers(0, 1), max_size=40))
def test_what_is_read_is_what_was_written_whatever_follows(steps, tail):
    found = read_back(section(steps), steps, tail)
    expected = [value for *_, value in steps]
    assert found == expected
    signs = [
        (math.copysign(1, a), math.copysign(1, b)) for a, b in zip(found, expected, strict=True) if type(a) is float
    ]
    assert all(a == b for a, b in signs), "minus zero stays minus zero"


@pytest.mark.parametrize("value", [5e-324, 1.7976931348623157e308, 0.1, -0.0, 1e22, 255.0, 0.1307])
def test_every_float_comes_back_exactly(value):
    steps = [("number", "x", value)]
    found = read_back(section(steps), steps)[0]
    assert found.hex() == value.hex()


def test_a_short_decimal_is_cheap_and_a_tuned_one_pays_for_its_digits():
    cost = {value: len(section([("number", "x", value)])) for value in (1.0, 0.5, 255.0, 0.1307, 0.13066048920154572)}
    assert cost[1.0] < cost[0.5] < cost[255.0] < cost[0.1307] < cost[0.13066048920154572]
    assert cost[0.13066048920154572] > 17 * math.log2(10)


def test_repetition_becomes_cheap():
    once, often = ([("integer", "x", 9)] * count for count in (1, 100))
    assert len(section(often)) < 6 * len(section(once))


def test_a_random_choice_among_three_costs_its_entropy():
    rng = np.random.default_rng(0)
    steps = [("number", "x", float(value)) for value in rng.choice([0.5, 2.0, 20.0], 400)]
    assert len(section(steps)) > 400 * math.log2(3)


def test_symbols_cover_their_alphabet():
    writer = Writer()
    assert [writer.symbol("s", 5, value) for value in range(5)] == list(range(5))
    reader = Reader(BitReader(np.packbits(writer.bits()).tobytes()))
    assert [reader.symbol("s", 5) for _ in range(5)] == list(range(5))
    assert Writer().symbol("s", 1) == 0


def test_code_words_of_one_structure_satisfy_kraft():
    words = {tuple(section([("signed", "a", a), ("integer", "b", b)])) for a in range(-12, 13) for b in range(25)}
    assert len(words) == 625
    assert sum(2.0 ** -len(word) for word in words) < 1
    ordered = sorted(words)
    assert not any(b[: len(a)] == a for a, b in itertools.pairwise(ordered)), "no word begins another"


def test_bits_that_no_writer_writes_are_refused():
    bits = section([("integer", "x", 5), ("number", "y", 0.25)])
    for place in range(len(bits)):
        changed = bits.copy()
        changed[place] ^= 1
        reader = Reader(BitReader(np.packbits(np.append(changed, np.zeros(64, np.uint8))).tobytes()))
        try:
            values = reader.integer("x"), reader.number("y")
            reader.finish()
        except (DecodeError, ValueError, OverflowError):
            continue
        assert values != (5, 0.25)


def test_the_bits_are_frozen():
    """One of everything, each kind of repetition among it: other bits make descriptions of another length."""
    writer = Writer()
    for value in (True, False, False, True, True, False):
        writer.flag("a", value)
    for value in (0, 1, 2, 3, 4, 7, 14, 15, 16, 100, 2**40, 7, 7, 7):
        writer.integer("n", value)
    for value in (0, 1, -1, 5, -6, 0):
        writer.signed("s", value)
    for value in (1.0, 1.0, -0.0, 0.0, -2.5e-7, 255.0, 255.0, 1e22, 0.1307, 0.1307):
        writer.number("x", value)
    for size, value in ((1, 0), (2, 1), (5, 4), (5, 0), (256, 200), (256, 200)):
        writer.symbol(("k", size), size, value)
    for value in (b"hello hello", b"", b"\xff\xfe"):
        writer.octets("o", value)
    bits = writer.bits()
    assert len(bits) == 408
    assert np.packbits(bits).tobytes().hex() == (
        "8d80a9ba62ced728a6601b93fac5c7ee000001e134bea62d4b2f93883b38fb2b436110b43aa9ded984b4b83ce81b866ddbc777"
    )


class Listed(Reader):
    """A reader of given flags, which keeps what each was expected to be."""

    def __init__(self, flags):
        Coder.__init__(self)
        self.flags, self.chances = iter(flags), []

    def _code(self, value, probability):
        self.chances.append(probability)
        return next(self.flags)


def test_a_flag_has_the_chance_of_krichevsky_and_trofimov():
    reader = Listed([True, True, False, True])
    for _ in range(4):
        reader.flag("a")
    assert reader.chances == [1 / 2, 3 / 4, 5 / 6, 5 / 8]


def test_an_integer_of_too_many_digits_is_refused():
    assert Listed([True] * 60 + [False] + [True] * 60).integer("n") == 2**61 - 2
    with pytest.raises(DecodeError, match="an integer of at most 61 binary digits"):
        Listed([True] * 61).integer("n")


def test_digits_of_long_integers_are_raw():
    reader = Listed([True] * 4 + [False] + [True] * 4)
    assert reader.integer("n") == 30
    assert reader.chances == [1 / 2] * 9
    assert Listed([True] * 3 + [False] + [True] * 3).integer("n") == 14
    twice = Listed(2 * ([True] * 4 + [False] + [True] * 4))
    assert [twice.integer("n") for _ in range(2)] == [30, 30]
    assert twice.chances[9:] == [3 / 4] * 4 + [1 / 4] + [1 / 2] * 4


def test_a_choice_asks_for_halves_and_never_for_what_has_no_weight():
    for flags, value, chances in (([True], 3, [1 / 6]), ([False, True], 2, [1 / 6, 2 / 5])):
        reader = Listed(flags)
        assert reader.choice((3, 0, 2, 1, 0, 0, 0)) == value
        assert reader.chances == chances
    assert (Listed([]).choice((0, 0, 5, 0)), Listed([]).choice((7,)), Listed([]).uniform(1)) == (2, 0, 0)
    reader = Listed([False, True])
    assert reader.uniform(5) == 1
    assert reader.chances == [3 / 5, 1 / 2]


def test_a_meter_measures_what_a_writer_writes():
    meter = Meter()
    assert [meter.flag("a", value) for value in (True, False, False)] == [True, False, False]
    assert meter.length == pytest.approx(math.log2(2 * 4 * 2))
    assert [meter.integer("n", 0), meter.signed("s", -1)] == [0, -1]
    for size, value in ((2, 1), (3, 0), (5, 4), (1, 0)):
        before = meter.length
        assert meter.uniform(size, value) == value
        assert meter.length - before == pytest.approx(math.log2(size))
    for weights in ((1, 3), (5, 1, 0, 2), (1, 1, 1, 4, 9)):
        for value in np.flatnonzero(weights).tolist():
            before = meter.length
            assert meter.choice(weights, value) == value
            assert meter.length - before == pytest.approx(math.log2(sum(weights) / weights[value]))
    steps = [("integer", "n", n % 7) for n in range(40)] + [("number", "x", 0.1307), ("octets", "o", b"abcabc")]
    measured = Meter()
    play(measured, steps, [value for *_, value in steps])
    assert measured.length <= len(section(steps)) <= measured.length + 2.1


def test_bytes_come_back():
    values = (b"\x01\x01\x02", b"", b"\x00\x01\xff")
    writer = Writer()
    assert [writer.octets("o", value) for value in values] == list(values)
    reader = Reader(BitReader(np.packbits(writer.bits()).tobytes()))
    assert [reader.octets("o") for _ in values] == list(values)


def test_the_first_byte_is_expected_as_behind_a_zero() -> None:
    """Zeros are all behind zeros and teach each other; of ones the first is not behind a one."""

    def length(content: bytes) -> int:
        writer = Writer()
        writer.octets("text", content)
        return len(writer.bits())

    assert length(bytes(4)) < length(b"\x01" * 4)
