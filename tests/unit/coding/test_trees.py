"""The tree code: what is written comes back, no word begins another, and only what the data decided costs bits."""

from __future__ import annotations

import math
from itertools import pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.coding import BitReader
from bitcert.coding.adaptive import Meter, Reader, Writer
from bitcert.coding.trees import Comparison, Leaf, Split, Subject, Tree, TreeCode, num_splits, short_form
from bitcert.errors import DecodeError

COLUMNS, CLASSES = 5, 3


def numbers() -> st.SearchStrategy[float]:
    normal = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
    return st.one_of(st.just(0.0), normal).map(lambda value: value + 0.0)


@st.composite
def subjects(draw: st.DrawFn) -> Subject:
    if draw(st.booleans()):
        return Subject(draw(st.integers(0, COLUMNS - 1)))
    other = draw(st.integers(1, COLUMNS - 1))
    sign, exponent = draw(st.sampled_from((-1, 1))), draw(st.integers(-126, 127))
    return Subject(draw(st.integers(0, other - 1)), other, sign * 2.0**exponent)


@st.composite
def trees(draw: st.DrawFn, depth: int = 5) -> Tree:
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return Leaf(draw(st.integers(0, CLASSES - 1)))
    subject = draw(subjects())
    test = Comparison(subject, draw(numbers()), subject.other is None and draw(st.booleans()))
    passed, failed = draw(trees(depth - 1)), draw(trees(depth - 1))
    return passed if passed == failed else Split(test, passed, failed)


def written(tree: Tree, columns: int = COLUMNS, classes: int = CLASSES) -> np.ndarray:
    writer = Writer()
    assert TreeCode(writer, columns, classes).tree(tree) == tree
    return writer.bits()


def measured(tree: Tree, columns: int = COLUMNS, classes: int = CLASSES) -> float:
    meter = Meter()
    TreeCode(meter, columns, classes).tree(tree)
    return meter.length


@settings(max_examples=100, deadline=None, derandomize=True)
@given(tree=trees())
def test_what_is_written_comes_back_in_as_many_bits_as_were_measured(tree: Tree) -> None:
    bits = written(tree)
    reader = BitReader(np.packbits(np.append(bits, 1)).tobytes())
    coder = Reader(reader)
    assert TreeCode(coder, COLUMNS, CLASSES).tree() == tree
    coder.finish()
    assert reader.position == len(bits), "what follows the section is left alone"
    assert measured(tree) - 0.1 <= len(bits) <= measured(tree) + 2.1


def renamed(tree: Tree, order: tuple[int, ...]) -> Tree:
    if isinstance(tree, Leaf):
        return tree
    subject, value = tree.test.subject, tree.test.value
    if subject.other is None:
        subject = Subject(order[subject.column])
    return Split(Comparison(subject, value, tree.test.equal), renamed(tree.passed, order), renamed(tree.failed, order))


def scaled(tree: Tree, column: int, octaves: int) -> Tree:
    """The same decisions when a column is multiplied by a power of two."""
    if isinstance(tree, Leaf):
        return tree
    subject, value = tree.test.subject, tree.test.value
    if subject.other == column:
        subject = Subject(subject.column, column, math.ldexp(subject.factor, -octaves))
    elif subject.column == column:
        value = math.ldexp(value, octaves)
        factor = math.ldexp(subject.factor, octaves)
        subject = Subject(column, subject.other, factor if subject.other is not None else 0.0)
    children = scaled(tree.passed, column, octaves), scaled(tree.failed, column, octaves)
    return Split(Comparison(subject, value, tree.test.equal), *children)


SAMPLE = Split(
    Comparison(Subject(4), 20.0),
    Split(Comparison(Subject(1, 4, -0.25), 0.0), Leaf(0), Split(Comparison(Subject(4), 21.5), Leaf(1), Leaf(2))),
    Split(Comparison(Subject(1), -0.375), Leaf(1), Split(Comparison(Subject(4), 20.0), Leaf(1), Leaf(0))),
)


def test_a_tree_costs_the_same_whatever_the_order_of_the_columns() -> None:
    alone = Split(Comparison(Subject(4), 20.0), Leaf(1), Split(Comparison(Subject(0), 3.0), Leaf(0), Leaf(2)))
    lengths = [measured(renamed(alone, order)) for order in permutations(range(COLUMNS))]
    assert max(lengths) - min(lengths) < 1e-9


@pytest.mark.parametrize("octaves", [-20, -3, 1, 17])
@pytest.mark.parametrize("column", [1, 4])
def test_a_tree_costs_the_same_in_other_units(column: int, octaves: int) -> None:
    assert measured(scaled(SAMPLE, column, octaves)) == pytest.approx(measured(SAMPLE), abs=1e-9)


def test_a_unit_beyond_the_cheap_octaves_costs_more() -> None:
    assert measured(scaled(SAMPLE, 1, 40)) > measured(SAMPLE) + 5


def test_more_digits_cost_more_and_a_threshold_used_before_costs_little() -> None:
    def twice(first: float, second: float) -> float:
        second_test = Split(Comparison(Subject(0), second), Leaf(0), Leaf(1))
        return measured(Split(Comparison(Subject(0), first), Leaf(2), second_test))

    values = [1.0, *(1 + 2.0**-digits for digits in range(1, 24))]
    lengths = [measured(Split(Comparison(Subject(0), value), Leaf(0), Leaf(1))) for value in values]
    expected = [1, *[2] * 21, 1]
    assert np.diff(lengths).tolist() == pytest.approx(expected), (
        "a flag, from the second one a bit; none after the 23rd"
    )
    assert twice(4.125, 4.125) < twice(4.125, 4.25) - 2


def small_trees() -> list[Tree]:
    """Every leaf, every tree of one test on two columns with few thresholds, and some of two."""
    values = (0.0, 1.0, -1.0, 1.5, 2.0, 0.75)
    tests = [Comparison(Subject(j), v, equal) for j, v, equal in product(range(2), values, (False, True))]
    tests += [Comparison(Subject(0, 1, factor), v) for factor, v in product((1.0, -1.0, 2.0), values)]
    stumps = [Split(test, Leaf(a), Leaf(1 - a)) for test, a in product(tests, range(2))]
    deeper = [Split(tests[0], Leaf(0), stump) for stump in stumps] + [
        Split(tests[3], stump, Leaf(1)) for stump in stumps
    ]
    return [Leaf(0), Leaf(1), *stumps, *deeper]


def test_no_word_begins_another_and_kraft_holds() -> None:
    words = ["".join(map(str, written(tree, 2, 2))) for tree in small_trees()]
    assert len(set(words)) == len(words)
    ordered = sorted(words)
    assert not any(after.startswith(before) for before, after in pairwise(ordered))
    assert sum(2.0 ** -len(word) for word in words) <= 1


def test_siblings_of_one_class_and_thresholds_of_no_float32_have_no_word() -> None:
    for tree in (
        Split(Comparison(Subject(0), 1.0), Leaf(1), Leaf(1)),
        *(Split(Comparison(Subject(0), value), Leaf(0), Leaf(1)) for value in (1.0 + 2.0**-24, 1.0 + 2.0**-30)),
        *(Split(Comparison(Subject(0), value), Leaf(0), Leaf(1)) for value in (2.0**-127, 2.0**128)),
        *(Split(Comparison(Subject(0, 1, c), 1.0), Leaf(0), Leaf(1)) for c in (3.0, 0.0, 2.0**-127, 2.0**128)),
        *(Split(Comparison(Subject(*pair, 1.0), 1.0), Leaf(0), Leaf(1)) for pair in ((0, 0), (1, 1), (1, 0))),
    ):
        assert TreeCode(Writer(), 2, 2).tree(tree) != tree


@pytest.mark.parametrize("side", ["passed", "failed", "both"])
def test_a_tree_has_at_most_200_tests_in_a_row(side: str) -> None:
    tree: Tree = Leaf(0)
    for level in range(201):
        assert level != 200 or measured(tree, 1, 2) > 0
        other, test = Leaf(1 - level % 2), Comparison(Subject(0), 0.0)
        down = side == "failed" or (side == "both" and level % 2 == 1)
        tree = Split(test, other, tree) if down else Split(test, tree, other)
    with pytest.raises(DecodeError, match="at most 200 in a row"):
        measured(tree, 1, 2)
    assert num_splits(tree) == 201


def complete(depth: int) -> Tree:
    """All tests alike, and ``2^depth - 1`` of them."""
    if depth == 0:
        return Leaf(0)
    passed = complete(depth - 1)
    return Split(Comparison(Subject(0), 0.0), passed, Leaf(1) if isinstance(passed, Leaf) else passed)


def test_a_tree_has_at_most_4096_tests() -> None:
    largest = Split(Comparison(Subject(0), 0.0), Leaf(0), complete(12))
    assert num_splits(largest) == 4096
    assert measured(largest, 1, 2) > 0
    with pytest.raises(DecodeError, match="at most 4096 tests"):
        measured(Split(Comparison(Subject(0), 0.0), Leaf(0), largest), 1, 2)


def read(bits: np.ndarray, columns: int, classes: int, given: Tree | None = None) -> Tree:
    coder = Reader(BitReader(np.packbits(np.append(bits, 1)).tobytes()))
    tree = TreeCode(coder, columns, classes).tree(given)
    coder.finish()
    return tree


def test_a_tree_is_written_step_by_step_as_the_page_on_the_format_says() -> None:
    pair = Split(Comparison(Subject(1, 2, -0.5), 2.0**40), Leaf(1), Leaf(0))
    again = Split(Comparison(Subject(1), -6.5), Leaf(0), Leaf(1))
    tree = Split(Comparison(Subject(1), -6.5), pair, Split(Comparison(Subject(1), 5.0, equal=True), Leaf(0), again))
    page = Writer()

    def choices(*steps: tuple[int, int, int]) -> None:
        for no, yes, answer in steps:
            page.choice((no, yes), answer)

    choices((1, 7, 1), (1, 1, 0))  # a test of a new subject, which is no pair
    page.uniform(3, 1)
    choices((6, 2, 0), (4, 2, 0), (7, 1, 1), (63, 1, 0))  # not equal, not 0, negative, a cheap exponent
    page.uniform(64, 34)
    choices((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 0), (1, 1, 1), (1, 1, 0))  # three digits, 1 and 0 and the last
    choices((2, 1, 1), (4, 1, 0), (3, 1, 1))  # a test passed, of a new subject, a pair
    page.uniform(3, 2)
    choices((1, 1, 1), (63, 1, 0))  # minus a cheap power of two
    page.uniform(64, 31)
    choices((6, 2, 0), (7, 1, 0), (63, 1, 1))  # not 0, not negative, an exponent that is not cheap
    page.uniform(254, 166)
    choices((1, 3, 0), (2, 3, 0), (1, 1, 1), (2, 1, 0))  # no digit; classes 1 and then 0
    choices((2, 1, 1), (4, 2, 1), (1, 1, 0), (1, 1, 0))  # a test failed, of the first subject again, a new test
    choices((8, 2, 1), (8, 2, 0), (7, 3, 0))  # equal, not 0, not negative
    page.signed("exponent", 0)
    choices((1, 1, 1), (1, 1, 1), (1, 1, 0), (1, 3, 0))  # two digits, 0 and the last
    choices((4, 3, 0), (2, 2, 0), (4, 1, 1))  # class 0; a test
    choices((4, 3, 1), (2, 1, 0), (3, 1, 1))  # of the first subject again, a test that was there before
    page.uniform(2, 0)
    choices((6, 3, 0), (3, 2, 0), (4, 3, 0))  # classes 0 and then 1
    assert written(tree, 3, 2).tolist() == page.bits().tolist()
    assert read(page.bits(), 3, 2) == tree


def test_a_single_column_is_not_asked_whether_it_is_a_pair() -> None:
    page = Writer()
    for no, yes, answer in ((1, 7, 1), (6, 2, 0), (4, 2, 1), (2, 1, 0), (1, 1, 1), (2, 1, 0)):
        page.choice((no, yes), answer)
    tree = Split(Comparison(Subject(0), 0.0), Leaf(1), Leaf(0))
    assert written(tree, 1, 2).tolist() == page.bits().tolist()
    assert read(page.bits(), 1, 2) == tree
    assert measured(tree, 1, 2) == pytest.approx(math.log2(8 / 7 * 8 / 6 * 6 / 2 * 3 / 2 * 2 * 3 / 2))


@pytest.mark.parametrize(
    ("steps", "got"),
    [
        (((4, 1, 0),), "a new subject that was there before"),
        (((4, 1, 1), (1, 1, 0), (8, 2, 0), (4, 4, 1)), "a new test that was there before"),
    ],
)
def test_what_was_there_before_and_is_coded_as_new_is_refused(
    steps: tuple[tuple[int, int, int], ...], got: str
) -> None:
    page = Writer()
    for no, yes, answer in ((1, 7, 1), (6, 2, 0), (4, 2, 1), (2, 1, 1), *steps):
        page.choice((no, yes), answer)
    with pytest.raises(DecodeError, match=got):
        read(page.bits(), 1, 2)


def chain(subjects: list[Subject], values: list[float]) -> Tree:
    """One test after another on the side of those that fail."""
    tree: Tree = Leaf(0)
    for number, (subject, value) in enumerate(zip(subjects, values, strict=True)):
        tree = Split(Comparison(subject, value), Leaf(1 + number % 2), tree)
    return tree


def test_every_pair_of_columns_has_a_word() -> None:
    pairs = [Subject(j, k, sign * 2.0 ** (j - k)) for k in range(1, 5) for j in range(k) for sign in (1, -1)]
    tree = chain(pairs, [1.0] * len(pairs))
    assert read(written(tree), COLUMNS, CLASSES) == tree


def test_tests_and_subjects_come_again_in_any_order() -> None:
    order = [0, 1, 2, 3, 2, 3, 1, 0, 1, 2]
    values = [1.0, 2.0, 3.0, 0.0, 1.5, -1.0, 2.0, 8.0, 7.0, 3.0]
    tree = chain([(Subject(2), Subject(0, 1, 0.5), Subject(1), Subject(4))[k] for k in order], values)
    assert read(written(tree), COLUMNS, CLASSES) == tree
    again = chain([Subject(0)] * 6, [1.0, 2.0, 3.0, 3.0, 2.0, 1.0])
    assert read(written(again), COLUMNS, CLASSES) == again


@pytest.mark.parametrize("given", [Leaf(1), SAMPLE, chain([Subject(3)] * 3, [2.0**100, -3.0, 2.0**100])])
def test_a_reader_ignores_what_it_is_given(given: Tree) -> None:
    for tree in (Leaf(2), SAMPLE, chain([Subject(1), Subject(1), Subject(0, 1, 2.0**50)], [2.0**-90, 3.0, 0.0])):
        assert read(written(tree), COLUMNS, CLASSES, given) == tree


def stump(value: float, factor: float | None = None) -> Tree:
    subject = Subject(0) if factor is None else Subject(0, 1, factor)
    return Split(Comparison(subject, value), Leaf(0), Leaf(1))


@pytest.mark.parametrize("size", [2.0**-126, 2.0**127])
def test_the_exponents_of_float32_have_words(size: float) -> None:
    for tree in (stump(size), stump(1.0, size), stump(-size, -size), chain([Subject(0)] * 2, [size, 1.0])):
        assert read(written(tree), COLUMNS, CLASSES) == tree
    assert measured(stump(size)) - measured(stump(1.0)) == pytest.approx(math.log2(63 * 254 / 64))
    assert measured(stump(0.0, size)) - measured(stump(0.0, 1.0)) == pytest.approx(math.log2(63 * 254 / 64))


@pytest.mark.parametrize("value", [2.0**-127, 2.0**128])
def test_an_exponent_of_no_float32_is_refused(value: float) -> None:
    with pytest.raises(DecodeError, match="thresholds of float32"):
        written(chain([Subject(0)] * 2, [value, 1.0]))
    page = Writer()
    for no, yes, answer in ((1, 7, 1), (6, 2, 0), (4, 2, 0), (7, 1, 0), (63, 1, 0)):
        page.choice((no, yes), answer)
    page.uniform(64, 32)
    for no, yes, answer in ((1, 1, 0), (2, 1, 1), (4, 1, 1), (1, 1, 0), (8, 2, 0), (6, 2, 0), (9, 1, 0)):
        page.choice((no, yes), answer)
    page.signed("exponent", round(math.log2(value)))
    with pytest.raises(DecodeError, match="thresholds of float32"):
        read(page.bits(), 1, 2)


def test_short_form_is_the_number() -> None:
    for value in (1.0, 3.0, 20.5, *map(float, np.float32([1e-30, 3e38, 0.1]))):
        exponent, digits, whole = short_form(value)
        assert math.ldexp(whole, exponent - digits) == value
        assert whole % 2 == 1 or digits == 0
        assert whole.bit_length() == digits + 1
