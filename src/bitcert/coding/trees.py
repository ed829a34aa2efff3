"""Decision trees on the columns of a table, as a message: their structures and their code.

A tree is a leaf, or a test with a tree for the examples that pass it and one for those that fail. A test is
``x_j <= t``, ``x_j = t`` or, of two columns, ``x_j + c x_k <= t`` with ``c`` plus or minus a power of two. Columns and
pairs become cheap as they are used again, and so do their thresholds and what is near them; a new column costs the same
wherever it stands in the table. A threshold is a short binary floating-point number, ``(1 + f) 2^e`` with ``f`` of as
many binary digits as the message pays for: none is read off the data for free. The exponents of 64 octaves around 1
cost the same, so the unit of a column is free within them. Nothing here looks at data.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from bitcert.coding.adaptive import Coder
from bitcert.errors import DecodeError

MAX_SPLITS = 1 << 12
MAX_DEPTH = 200
MAX_DIGITS = 23
"""Binary digits of a threshold after its first: all that float32 has."""

LEAST_EXPONENT, LARGEST_EXPONENT = -126, 127
_CHEAP = range(-32, 32)
_ESCAPE = (63, 1)
_REUSE = 4
"""The next column is a new one with chance 4 in 4 + n after n tests."""

_FIRST = {
    "root": (1, 7),
    "passed": (2, 1),
    "failed": (2, 1),
    "pair": (1, 1),
    "equal": (6, 2),
    "zero": (4, 2),
    "negative": (7, 1),
}
"""What the counts of a yes-or-no question begin with, no first; all others begin with (1, 1)."""


@dataclass(frozen=True)
class Subject:
    """What a test looks at: ``x[column]``, or ``x[column] + factor * x[other]`` with ``column < other``."""

    column: int
    other: int | None = None
    factor: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """``subject <= value``, or ``subject = value`` if ``equal``; the value is a float32 number."""

    subject: Subject
    value: float
    equal: bool = False


@dataclass(frozen=True)
class Leaf:
    """The class that is answered."""

    label: int


@dataclass(frozen=True)
class Split:
    """``passed`` for the examples that pass the test, ``failed`` for the others."""

    test: Comparison
    passed: Tree
    failed: Tree


Tree = Leaf | Split

Alphabets = Mapping[int, range]
"""Columns of which it was declared beforehand which whole numbers they hold."""


def num_splits(tree: Tree) -> int:
    """Tests in a tree.

    >>> num_splits(Split(Comparison(Subject(0), 0.5), Leaf(0), Leaf(1)))
    1
    """
    return 0 if isinstance(tree, Leaf) else 1 + num_splits(tree.passed) + num_splits(tree.failed)


def short_form(value: float) -> tuple[int, int, int]:
    """``(e, k, n)`` of a positive float32 number ``n 2^(e - k)``, with ``n`` of ``k + 1`` digits and odd if ``k > 0``.

    >>> short_form(20.0), short_form(1.0), short_form(0.375)
    ((4, 2, 5), (0, 0, 1), (-2, 1, 3))
    """
    fraction, exponent = math.frexp(value)
    whole = int(fraction * (1 << MAX_DIGITS + 1))
    spare = (whole & -whole).bit_length() - 1
    return exponent - 1, MAX_DIGITS - spare, whole >> spare


class TreeCode:
    """A tree, for both directions: what is given is written, or ignored and read.

    Args:
        coder: a writer or a reader.
        num_columns: entries of an example.
        num_classes: number of classes.
        alphabets: the whole numbers that a column was declared to hold, for those of which that was declared; tests
            compare it with one of these, all of which cost the same.
    """

    def __init__(self, coder: Coder, num_columns: int, num_classes: int, alphabets: Alphabets | None = None) -> None:
        self.coder, self.num_columns, self.alphabets = coder, num_columns, alphabets or {}
        self.used: dict[Subject, int] = {}
        self.tests: dict[Subject, list[Comparison]] = {}
        self.labels = [1] * num_classes
        self.exponents: dict[Subject, int] = {}
        self.splits = 0

    def yes(self, question: str, value: bool, *context: Hashable) -> bool:
        """A yes-or-no question, adaptive within its context."""
        return self.coder.flag((question, *context), value, _FIRST.get(question, (1, 1)))

    def tree(self, given: Tree | None = None) -> Tree:
        """The whole tree."""
        return self.node(given, "root", None, 0)

    def node(self, given: Tree | None, place: str, sibling: Tree | None, depth: int) -> Tree:
        """The root, or what passed or failed a test; ``sibling`` is then what passed."""
        before = "" if sibling is None else type(sibling).__name__
        if not self.yes(place, isinstance(given, Split), before):
            return self.leaf(given if isinstance(given, Leaf) else Leaf(0), sibling)
        self.splits += 1
        if self.splits > MAX_SPLITS or depth >= MAX_DEPTH:
            expected = f"a tree of at most {MAX_SPLITS} tests, at most {MAX_DEPTH} in a row"
            raise DecodeError(expected, "a larger one", "ask for the file again")
        split = given if isinstance(given, Split) else None
        test = self.test(split.test if split else None)
        passed = self.node(split.passed if split else None, "passed", None, depth + 1)
        failed = self.node(split.failed if split else None, "failed", passed, depth + 1)
        return Split(test, passed, failed)

    def leaf(self, given: Leaf, sibling: Tree | None) -> Leaf:
        """A leaf; it differs from a sibling that is a leaf too."""
        weights = list(self.labels)
        if isinstance(sibling, Leaf):
            weights[sibling.label] = 0
        label = self.coder.choice(weights, given.label)
        self.labels[label] += 1
        return Leaf(label)

    def test(self, given: Comparison | None) -> Comparison:
        """A test."""
        given = given or Comparison(Subject(0), 0.0)
        return self.test_of(self.subject(given.subject), given)

    def test_of(self, subject: Subject, given: Comparison) -> Comparison:
        """A test of a subject that is known."""
        known = self.tests.setdefault(subject, [])
        if known and self.yes("again", given in known):
            return known[self.coder.uniform(len(known), known.index(given) if given in known else 0)]
        equal = subject.other is None and self.yes("equal", given.equal)
        test = Comparison(subject, self.value(subject, given.value), equal)
        if test in known:
            raise _not_canonical("a new test that was there before")
        known.append(test)
        return test

    def subject(self, value: Subject) -> Subject:
        """What a test looks at: as one before, by their uses, or something new."""
        before = list(self.used)
        again = self.coder.choice((_REUSE, sum(self.used.values())), int(value in self.used))
        if again:
            place = before.index(value) if value in self.used else 0
            found = before[self.coder.choice(list(self.used.values()), place)]
        elif self.num_columns > 1 and self.yes("pair", value.other is not None):
            found = self.pair(value)
        else:
            found = Subject(self.coder.uniform(self.num_columns, value.column))
        if found in self.used and not again:
            raise _not_canonical("a new subject that was there before")
        self.used[found] = self.used.get(found, 0) + 1
        return found

    def pair(self, value: Subject) -> Subject:
        """Two columns and the power of two that the second is multiplied by."""
        size, other = self.num_columns, value.other or 1
        rank = self.coder.uniform(size * (size - 1) // 2, other * (other - 1) // 2 + min(value.column, other - 1))
        return self.pair_of(rank, value.factor)

    def pair_of(self, rank: int, factor: float) -> Subject:
        """A pair of two columns that are known."""
        other = (1 + math.isqrt(1 + 8 * rank)) // 2
        negative = self.yes("minus", factor < 0)
        size = math.ldexp(1.0, self.first_exponent(short_form(abs(factor) or 1.0)[0]))
        return Subject(rank - other * (other - 1) // 2, other, -size if negative else size)

    def value(self, subject: Subject, value: float) -> float:
        """What a subject is compared with: a declared number of its column, or any threshold."""
        declared = self.alphabets.get(subject.column) if subject.other is None else None
        if declared is None:
            return self.threshold(subject, value)
        place = int(value) - declared[0]
        return float(declared[self.coder.uniform(len(declared), place if 0 <= place < len(declared) else 0)])

    def threshold(self, subject: Subject, value: float) -> float:
        """A threshold: 0, or sign, exponent and digits."""
        if self.yes("zero", value == 0):
            return 0.0
        negative = self.yes("negative", value < 0, subject)
        exponent, digits, whole = short_form(abs(value) or 1.0)
        exponent = self.exponent(subject, exponent)
        count, known = 0, subject if self.used[subject] > 1 else None
        while count < MAX_DIGITS and self.yes("digit", digits > count, known, count):
            count += 1
        coded = 1
        for place in range(count - 1, 0, -1):
            coded = 2 * coded + self.yes("binary", bool(whole >> place & 1), subject, exponent, coded)
        coded = 2 * coded + 1 if count else coded
        size = math.ldexp(coded, exponent - count)
        return -size if negative else size

    def exponent(self, subject: Subject, value: int) -> int:
        """Of a first threshold by itself, of later ones of a subject by the difference from the last."""
        last = self.exponents.get(subject)
        coded = self.first_exponent(value) if last is None else last + self.coder.signed("exponent", value - last)
        if not LEAST_EXPONENT <= coded <= LARGEST_EXPONENT:
            raise DecodeError("thresholds of float32", f"an exponent of {coded}", "ask for the file again")
        self.exponents[subject] = coded
        return coded

    def first_exponent(self, value: int) -> int:
        """An exponent of which nothing is known: 64 octaves cost the same."""
        if not self.coder.choice(_ESCAPE, int(value not in _CHEAP)):
            return _CHEAP[self.coder.uniform(len(_CHEAP), value - _CHEAP[0] if value in _CHEAP else 0)]
        size = LARGEST_EXPONENT - LEAST_EXPONENT + 1
        found = self.coder.uniform(size, value - LEAST_EXPONENT) + LEAST_EXPONENT
        if found in _CHEAP:
            raise _not_canonical("a long code of an exponent that has a short one")
        return found


def _not_canonical(got: str) -> DecodeError:
    return DecodeError("a tree in canonical form", got, "ask for the file again")
