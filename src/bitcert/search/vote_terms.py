"""Terms that a sum of votes may use: thresholds, equalities, ramps, and the paths of small trees, with what each costs.

A path of a tree is a rule (RuleFit, Friedman & Popescu 2008): the trees are those of the tree search, grown with noise,
and later on the examples that the votes so far get wrong. The head's descent selects among the terms, each at its own
price in bits (:class:`TermModel`). Which terms are tried depends on the data, which is free: the message spells each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitcert.coding import RowModel, RowPrices
from bitcert.coding.adaptive import Meter
from bitcert.coding.rows import entry_prices
from bitcert.coding.trees import LEAST_EXPONENT, Alphabets, Leaf, Subject, Tree, short_form
from bitcert.coding.votes import STEPS, Condition, Ramp, Side, Term, Votes, VotesCode, rank_of
from bitcert.decoder.trees import Columns, numbers
from bitcert.search.tree_table import Binned, Floats, shortest_between, value_bits

Conditions = tuple[Condition, ...]

_MOST_CONDITIONS = 3
_RAMP_ENDS = ((0.01, 0.99), (0.01, 0.6), (0.4, 0.99))
"""Quantiles between which a ramp rises."""
_RAMP_SLACK = 1 / 8
_USED_BEFORE = 3.0
"""Bits that a later test of a subject saves, whose exponent and first digits are mostly known."""


def paths_of(tree: Tree, so_far: Conditions = ()) -> Iterator[Conditions]:
    """The rules of a tree: for each node but the root what leads there, if that is not too much."""
    if isinstance(tree, Leaf) or len(so_far) >= _MOST_CONDITIONS:
        return
    for passed, child in ((True, tree.passed), (False, tree.failed)):
        rule = (*so_far, Side(tree.test, passed))
        if len(rule) > 1 or passed:
            yield rule
        yield from paths_of(child, rule)


def thresholds(table: Binned, most: int, places: NDArray[np.intp] | None = None) -> Iterator[Conditions]:
    """At most about so many thresholds of each subject, the shortest of neighbours; and values, if they are few.

    Args:
        table: cut at all thresholds.
        most: of each subject.
        places: subjects to look at, all by default.
    """
    for number in range(len(table.subjects)) if places is None else places:
        start = int(table.first[number])
        stop = int(table.first[number + 1]) if number + 1 < len(table.first) else table.num_bins
        for kind in (0, 1):
            inside = start + np.flatnonzero(table.tests[kind, start:stop])
            if kind == 1 and len(inside) > most:
                continue
            for part in np.array_split(inside, min(most, len(inside))) if len(inside) else ():
                best = part[int(table.threshold_bits[kind, part].argmin())]
                yield (Side(table.test(kind, int(best))),)


def near(table: Binned, conditions: Conditions, reach: int) -> Iterator[Conditions]:
    """The same with one test moved by at most so many bins."""
    for place, condition in enumerate(conditions):
        if isinstance(condition, Ramp) or condition.test.equal or condition.subject not in table.numbers:
            continue
        number = table.number(condition.test)
        here = table.passing_bins(condition.test)[1]
        for other in range(here - reach, here + reach + 1):
            if 0 <= other < table.num_bins and table.subject[other] == number and table.tests[0, other]:
                moved = Side(table.test(0, other), condition.passed)
                yield (*conditions[:place], moved, *conditions[place + 1 :])


def ramps(columns: Columns, subjects: Sequence[Subject]) -> Iterator[Conditions]:
    """Ramps between quantiles of each subject with more than a few values."""
    for subject in subjects:
        values = np.sort(numbers(subject, columns))
        if len(np.unique(values[:: max(1, len(values) // 1000)])) <= 4:
            continue
        for low, high in _RAMP_ENDS:
            start, stop = (float(values[round(end * (len(values) - 1))]) for end in (low, high))
            if not stop > start:
                continue
            exponent = math.floor(math.log2((stop - start) / STEPS) + 0.5)
            slack = (stop - start) * _RAMP_SLACK
            value = float(shortest_between(np.array([start - slack]), np.array([start + slack]))[0][0])
            if not math.isnan(value) and exponent >= LEAST_EXPONENT:
                yield (Ramp(subject, value, exponent),)


def condition_bits(condition: Condition, alphabets: Alphabets) -> float:
    """What a condition costs about, beside its subject."""
    value, declared, kind = 0.0, None, 6.0
    if isinstance(condition, Ramp):
        value = condition.value
    else:
        value, kind = condition.test.value, 2.0 if condition.test.equal else 0.4
        declared = alphabets.get(condition.subject.column) if condition.subject.other is None else None
    if declared is not None:
        return math.log2(len(declared)) + _USED_BEFORE + kind
    digits = short_form(abs(value))[1] if value else 0
    return max(2.0, float(value_bits(np.array(value), digits))) + kind


def canonical(terms: Sequence[tuple[Conditions, tuple[int, ...]]], always: Sequence[int]) -> Votes:
    """Votes in the order of the code; of two classes the second alone is voted on, for or against."""
    if len(always) == 2:
        always = 0, always[1] - always[0]
        terms = [(conditions, (0, votes[1] - votes[0])) for conditions, votes in terms]

    def order(term: Term) -> tuple[object, ...]:
        first = term.conditions[0]
        value = first.value if isinstance(first, Ramp) else first.test.value
        return *rank_of(first.subject), first.subject.factor, isinstance(first, Ramp), value

    found = [Term(conditions, tuple(map(int, votes))) for conditions, votes in terms if any(votes)]
    return Votes(tuple(map(int, always)), tuple(sorted(found, key=order)))


@dataclass(frozen=True, eq=False)
class TermModel(RowModel):
    """The code of votes as the head's descent sees it: a row for each term and one for what is always given.

    Args:
        terms: conditions of each row but the last.
        num_columns: of the data.
        alphabets: what a schema declares of columns.
        own: ``[terms]`` bits of the conditions, as if their subjects were new.
        subject: ``[terms]`` the number of the first subject.
        is_pair: ``[terms]`` whether it is a pair.
    """

    terms: tuple[Conditions, ...]
    num_columns: int
    alphabets: Alphabets
    own: Floats
    subject: NDArray[np.intp]
    is_pair: NDArray[np.bool_]

    @classmethod
    def of(cls, terms: Sequence[Conditions], table: Binned) -> TermModel:
        """The model of these terms."""
        num_columns, alphabets = table.num_columns, table.alphabets
        known: dict[Subject, int] = {}
        subject = np.array([known.setdefault(term[0].subject, len(known)) for term in terms], dtype=np.intp)
        other = math.log2(num_columns) + 3.0
        bits = [sum(condition_bits(each, alphabets) for each in term) + other * (len(term) - 1) for term in terms]
        own = np.array(bits, dtype=np.float64) + 1.5
        is_pair = np.array([term[0].subject.other is not None for term in terms], dtype=np.bool_)
        groups = np.append(np.zeros(len(terms), dtype=np.intp), -1)
        return cls(groups, table.num_classes, tuple(terms), num_columns, alphabets, own, subject, is_pair)

    def prices(self, matrix: NDArray[np.int64]) -> RowPrices:
        """What changes cost now: a subject that is used is cheap, a new one is one of those left."""
        used = (matrix[:-1] != 0).any(1)
        count = np.bincount(self.subject[used], minlength=int(self.subject.max(initial=0)) + 1)
        columns, pairs = (len(np.unique(self.subject[used & (self.is_pair == kind)])) for kind in (False, True))
        new = np.where(
            self.is_pair,
            math.log2(max(1.0, self.num_columns * (self.num_columns - 1) / 2) / (1 + pairs)) + 9.5,
            max(0.0, math.log2(self.num_columns / (1 + columns))) + 1.5,
        )
        alone = count[self.subject] - used == 0
        on = self.own + np.where(alone, new, 1.0 - _USED_BEFORE)
        inside = matrix[:-1][used]
        return RowPrices(np.append(on, 0.0), np.zeros(len(matrix)), entry_prices(matrix, inside))

    def votes(self, matrix: NDArray[np.int64]) -> Votes:
        """What a matrix of weights says."""
        used = np.flatnonzero((matrix[:-1] != 0).any(1))
        return canonical([(self.terms[row], tuple(matrix[row])) for row in used], matrix[-1])

    def code_bits(self, matrix: NDArray[np.int64]) -> float:
        """Ideal length of what a matrix says."""
        meter = Meter()
        VotesCode(meter, self.num_columns, self.columns, self.alphabets).whole(self.votes(matrix))
        return meter.length
