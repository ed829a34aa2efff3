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
from bitcert.coding.trees import MAX_DEPTH, Comparison, Leaf, Split, Subject, Tree, TreeCode, num_splits, short_form
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

    values = (4.0, 6.0, 5.0, 4.5, 4.25, 4.125)
    lengths = [measured(Split(Comparison(Subject(0), value), Leaf(0), Leaf(1))) for value in values]
    assert np.diff(lengths).tolist() == pytest.approx([1, 2, 2, 2, 2]), "one flag, and from the second digit one bit"
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
        Split(Comparison(Subject(0), 1.0 + 2.0**-30), Leaf(0), Leaf(1)),
        Split(Comparison(Subject(0, 1, 3.0), 1.0), Leaf(0), Leaf(1)),
    ):
        assert TreeCode(Writer(), 2, 2).tree(tree) != tree


def test_a_tree_that_is_too_deep_is_refused() -> None:
    tree: Tree = Leaf(0)
    for level in range(MAX_DEPTH + 1):
        tree = Split(Comparison(Subject(0), float(level)), Leaf(1 - level % 2), tree)
    with pytest.raises(DecodeError, match=f"at most {MAX_DEPTH} in a row"):
        TreeCode(Writer(), 1, 2).tree(tree)
    assert num_splits(tree) == MAX_DEPTH + 1


def test_short_form_is_the_number() -> None:
    for value in (1.0, 3.0, 20.5, *map(float, np.float32([1e-30, 3e38, 0.1]))):
        exponent, digits, whole = short_form(value)
        assert math.ldexp(whole, exponent - digits) == value
        assert whole % 2 == 1 or digits == 0
        assert whole.bit_length() == digits + 1
