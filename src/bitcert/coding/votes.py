"""Sums of votes on the columns of a table, as a message: terms of one to a few tests, and their code.

A term holds a value in each example, the product of its conditions: a test (:mod:`bitcert.coding.trees`) that is passed
or failed, and perhaps a *ramp*, which rises in 32 equal steps from 0 to 4 as a column or a sum of two grows. A term
gives its value, times an integer, to each class; the largest sum is the answer. Terms of one test are thresholds,
equalities and sums of pairs, those of several are the paths of small trees, and ramps make the classifier linear where
that is shorter, whatever unit and offset a column has: both are in the message.

Terms are a set, so their order is not coded: the subjects of first conditions are one of all subsets of the columns
(and of the pairs) of that size. Nothing here looks at data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from bitcert.coding.trees import LARGEST_EXPONENT, LEAST_EXPONENT, Comparison, Subject, TreeCode, short_form
from bitcert.errors import DecodeError

STEPS, SPAN = 32, 4
"""A ramp has so many steps, and so high is it in the end."""

MAX_SUBJECTS = 1 << 7
"""Columns in first conditions, and as many pairs."""

MAX_TERMS = 1 << 12
MAX_CONDITIONS = 4
MAX_VOTE = 127
"""With these limits every sum is exact in float32."""


@dataclass(frozen=True)
class Ramp:
    """``(4 / 32) * #{i < 32 : subject > value + i 2^exponent}``."""

    subject: Subject
    value: float
    exponent: int


@dataclass(frozen=True)
class Side:
    """1 for the examples that pass a test (or that fail it), else 0."""

    test: Comparison
    passed: bool = True

    @property
    def subject(self) -> Subject:
        """What is looked at."""
        return self.test.subject


Condition = Side | Ramp


@dataclass(frozen=True)
class Term:
    """The product of one to four conditions, only the first of which may be a ramp, and its votes ``[classes]``."""

    conditions: tuple[Condition, ...]
    votes: tuple[int, ...]


@dataclass(frozen=True)
class Votes:
    """Votes ``[classes]`` that are always given, and the terms: those of one first subject together, in its order."""

    always: tuple[int, ...]
    terms: tuple[Term, ...] = ()


def rank_of(subject: Subject) -> tuple[int, int]:
    """The order of subjects: all columns, then all pairs."""
    if subject.other is None:
        return 0, subject.column
    return 1, subject.other * (subject.other - 1) // 2 + subject.column


class _Firsts(Sequence[int]):
    """Subsets of ``size`` elements of ``[start, stop)`` whose smallest is before ``start + i``, for each ``i``."""

    def __init__(self, width: int, size: int) -> None:
        self.width, self.size = width, size

    def __len__(self) -> int:
        return self.width + 1

    def __getitem__(self, place):  # type: ignore[no-untyped-def]
        return math.comb(self.width, self.size) - math.comb(self.width - place, self.size)


class VotesCode(TreeCode):
    """A sum of votes, for both directions: what is given is written, or ignored and read.

    Of two classes the second alone gets votes, which may be negative.
    """

    def whole(self, given: Votes | None = None) -> Votes:
        """All of it."""
        classes = len(self.labels)
        given = given or Votes((0,) * classes)
        always = tuple(self.coder.signed("always", vote) for vote in given.always[classes == 2 :])
        if max(map(abs, always)) > MAX_VOTE:
            raise _refused(f"votes of at most {MAX_VOTE}", "more")
        columns = self.num_columns
        groups: dict[tuple[int, int], list[list[Term]]] = {}
        for subject, same in groupby(given.terms, lambda term: term.conditions[0].subject):
            groups.setdefault(rank_of(subject), []).append(list(same))
        terms: list[Term] = []
        for kind, size in enumerate((columns, columns * (columns - 1) // 2)):
            for rank in self.subset(kind, size, [rank for of, rank in groups if of == kind]):
                left = groups.get((kind, rank), [])
                terms += self.group(kind, rank, left.pop(0) if left else [], len(terms))
                while kind and self.yes("more factors", bool(left)):
                    terms += self.group(kind, rank, left.pop(0) if left else [], len(terms))
        return Votes((0, *always) if classes == 2 else always, tuple(terms))

    def subset(self, kind: int, size: int, given: list[int]) -> list[int]:
        """A set of numbers below ``size``, ascending: all sets of as many elements are equally long."""
        if not size:
            return []
        count = self.coder.integer(("subjects", kind), len(given))
        if count > min(size, MAX_SUBJECTS):
            raise _refused(f"at most {min(size, MAX_SUBJECTS)} subjects", str(count))
        found: list[int] = []
        for place in range(count):
            start = found[-1] + 1 if found else 0
            value = given[place] - start if place < len(given) else 0
            found.append(start + self.coder.sums(_Firsts(size - start, count - place), value))
        return found

    def group(self, kind: int, rank: int, given: list[Term], before: int) -> list[Term]:
        """The terms, at least one, whose first condition has this subject."""
        first = given[0].conditions[0].subject if given else Subject(0)
        subject = self.pair_of(rank, first.factor) if kind else Subject(rank)
        found: list[Term] = []
        while True:
            if before + len(found) >= MAX_TERMS:
                raise _refused(f"at most {MAX_TERMS} terms", "more")
            place = len(found)
            found.append(self.term(subject, given[place] if place < len(given) else None))
            if not self.yes("more terms", len(found) < len(given)):
                return found

    def term(self, subject: Subject, given: Term | None) -> Term:
        """A term whose first subject is known."""
        conditions = given.conditions if given else ()
        found = [self.first(subject, conditions[0] if conditions else None)]
        while len(found) < MAX_CONDITIONS and self.yes("and", len(found) < len(conditions), len(found)):
            found.append(self.side(conditions[len(found)] if len(found) < len(conditions) else None))
        if len(found) > 1 and isinstance(found[0], Side):
            passed = self.yes("side", isinstance(conditions[0], Side) and conditions[0].passed if conditions else True)
            found[0] = Side(found[0].test, passed)
        return Term(tuple(found), self.votes(given.votes if given else None))

    def first(self, subject: Subject, given: Condition | None) -> Condition:
        """The first condition; by itself it is a test that is passed."""
        self.used[subject] = self.used.get(subject, 0) + 1
        if not self.yes("ramp", isinstance(given, Ramp)):
            test = given.test if isinstance(given, Side) else Comparison(subject, 0.0)
            return Side(self.test_of(subject, test))
        ramp = given if isinstance(given, Ramp) else Ramp(subject, 0.0, 0)
        value = self.threshold(subject, ramp.value)
        if value:
            size = short_form(abs(value))[0]
            exponent = size + self.coder.signed("rise", ramp.exponent - size)
        else:
            exponent = self.first_exponent(ramp.exponent)
        if not LEAST_EXPONENT <= exponent <= LARGEST_EXPONENT:
            raise _refused("steps of float32", f"an exponent of {exponent}")
        return Ramp(subject, value, exponent)

    def side(self, given: Condition | None) -> Side:
        """A further condition: any test, passed or failed."""
        known = given if isinstance(given, Side) else None
        test = self.test(known.test if known else None)
        return Side(test, self.yes("side", known.passed if known else True))

    def votes(self, given: tuple[int, ...] | None) -> tuple[int, ...]:
        """Votes of a term, at least one of them other than 0."""
        classes = len(self.labels)
        asked = range(1 if classes == 2 else 0, classes)
        found = [0] * classes
        for label in asked:
            value = given[label] if given else 0
            forced = label == classes - 1 and not any(found)
            if not forced and not self.yes("vote", value != 0):
                continue
            negative = self.yes("against", value < 0)
            size = 1 + self.coder.integer("size", max(0, abs(value) - 1))
            if size > MAX_VOTE:
                raise _refused(f"votes of at most {MAX_VOTE}", str(size))
            found[label] = -size if negative else size
        return tuple(found)


def _refused(expected: str, got: str) -> DecodeError:
    return DecodeError(expected, got, "ask for the file again")
