"""A table as a search for trees sees it: every column cut at few thresholds, each as short as its gap allows.

Between two neighbouring values of a column (of many, between quantiles) any threshold decides alike, so the one with
the fewest binary digits stands for all. The cuts are read off the data, which is free: the message names the threshold
by its digits, and any would do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bitcert.coding.trees import LARGEST_EXPONENT, LEAST_EXPONENT, MAX_DIGITS, Alphabets, Comparison, Subject
from bitcert.decoder.trees import numbers

MOST_BINS = 255
LEAST_BINS = 7
_ALL_BINS = 1 << 20
MOST_COUNTS = 1 << 24
"""Bins times classes: what is counted at each node."""

_LARGEST = 2.0**127

Columns = NDArray[Any]
Floats = NDArray[np.float64]
Counts = NDArray[np.intp]
Rows = NDArray[np.intp]
Numbers = TypeVar("Numbers", NDArray[np.float64], NDArray[np.intp])


def shortest_between(low: Floats, high: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """For each gap ``[low, high)`` the number of fewest binary digits in it, and its digits after the first.

    Of 0, if it is there, no digit is counted. NaN for a gap that holds no normal float32 number.

    >>> shortest_between(np.array([20.0, -3.2, -1.0]), np.array([21.0, -2.1, 1.0]))
    (array([20., -3.,  0.]), array([2, 1, 0]))
    """
    low, high = np.maximum(low, -_LARGEST), np.minimum(high, _LARGEST)
    below = high <= 0
    least, most = np.where(below, -high, low), np.where(below, -low, high)
    found, digits = np.full(len(low), np.nan), np.full(len(low), MAX_DIGITS, dtype=np.intp)
    start = np.where(below, most, least)
    exponents = np.frexp(np.where(start > 0, start, 1.0))[1] - 1
    left = np.flatnonzero((start > 0) & (exponents >= LEAST_EXPONENT))
    for count in range(MAX_DIGITS + 1):
        unit, under = np.exp2(exponents[left] - count), below[left]
        size = np.where(under, np.floor(most[left] / unit), np.ceil(least[left] / unit)) * unit
        fits = np.where(under, size > least[left], size < most[left])
        found[left[fits]], digits[left[fits]] = np.where(under, -size, size)[fits], count
        left = left[~fits]
    zero = (low <= 0) & (high > 0)
    found[zero], digits[zero] = 0.0, 0
    return found, digits


def value_bits(values: Floats, digits: NDArray[np.intp] | int) -> Floats:
    """What values with so many binary digits after the first cost about as thresholds; declared ones cost less."""
    return np.where(values == 0, 1.0, 7.0 + np.where(values < 0, 2.0, 0.0) + np.maximum(1, 2 * digits))


def _cut(values: Columns, most: int) -> tuple[Floats, NDArray[np.intp], Floats]:
    """Thresholds of a column with their digits, and the values themselves if they are few."""
    distinct = np.unique(values).astype(np.float64)
    few = len(distinct) <= most
    if not few:
        places = np.linspace(0, len(values) - 1, most + 1).round().astype(np.intp)
        ends = np.unique(np.sort(values)[places].astype(np.float64))
        # the last value is no threshold; the one before the first quantile may be
        distinct = np.unique(np.concatenate([distinct[:1], ends, distinct[-1:]]))
    thresholds, digits = shortest_between(distinct[:-1], distinct[1:])
    known = ~np.isnan(thresholds)
    few &= bool(known.all())
    return thresholds[known], digits[known], distinct if few else np.empty(0)


def pairs_of(columns: Columns, chosen: Sequence[int], octaves: int) -> list[Subject]:
    """Sums and differences of every two chosen columns, scaled by powers of two to be of a size up to ``octaves``."""
    sizes = columns[:, chosen].astype(np.float64).std(0)
    found = []
    for second, other in enumerate(chosen):
        for first, column in enumerate(chosen[:second]):
            if not sizes[first] or not sizes[second]:
                continue
            octave = round(math.log2(sizes[first] / sizes[second]))
            if not LEAST_EXPONENT + octaves <= octave <= LARGEST_EXPONENT - octaves:
                continue
            factors = [2.0 ** (octave + more) for more in range(-octaves, octaves + 1)]
            found += [Subject(column, other, sign * factor) for sign in (1, -1) for factor in factors]
    return found


@dataclass(frozen=True, eq=False)
class Binned:
    """Subjects of tests in bins. A bin is a subject and an upper threshold; an example is in one bin of each subject.

    Attributes:
        bins: ``[n, subjects]`` the bin of each entry, numbered over all subjects.
        labels: ``[n]``.
        num_classes: of the problem.
        subjects: all columns, and some pairs.
        num_columns: of the data.
        subject: ``[bins]`` the index of its subject.
        first: ``[subjects]`` the first bin of each.
        threshold: ``[bins]`` examples in this bin of the subject and those before pass; NaN for the last.
        value: ``[bins]`` the one value in the bin, or NaN.
        digits: ``[2, bins]`` binary digits of both.
        alphabets: what a schema declares of columns.
    """

    bins: NDArray[np.int32]
    labels: NDArray[np.int64]
    num_classes: int
    subjects: tuple[Subject, ...]
    num_columns: int
    subject: Rows
    first: Rows
    threshold: Floats
    value: Floats
    digits: NDArray[np.intp]
    alphabets: Alphabets = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        columns: Columns,
        labels: NDArray[np.int64],
        num_classes: int,
        pairs: Sequence[Subject] = (),
        alphabets: Alphabets | None = None,
    ) -> Binned:
        """Bins of ``columns [n, d]``, and of some pairs."""
        num_columns = columns.shape[1]
        subjects = (*map(Subject, range(num_columns)), *pairs)
        most = int(np.clip(min(_ALL_BINS, MOST_COUNTS // num_classes) // len(subjects), LEAST_BINS, MOST_BINS))
        bins = np.empty((len(columns), len(subjects)), dtype=np.int32)
        first, thresholds, values, digits = [], [], [], []
        done = 0
        for place, subject in enumerate(subjects):
            values_here = numbers(subject, columns)
            cuts, cut_digits, alone = _cut(values_here, most)
            if subject.other is not None:
                alone = alone[:0]
            bins[:, place] = np.searchsorted(cuts, values_here, side="left") + done
            first.append(done)
            thresholds.append(np.append(cuts, np.nan))
            tiny = (alone != 0) & (np.abs(alone) < 2.0**LEAST_EXPONENT)
            values.append(np.where(tiny, np.nan, alone) if len(alone) else np.full(len(cuts) + 1, np.nan))
            digits.append(np.stack([np.append(cut_digits, 0), _digits_of(values[-1])]))
            done += len(cuts) + 1
        of_bins = np.repeat(np.arange(len(first)), [len(cuts) for cuts in thresholds])
        parts = np.concatenate(thresholds), np.concatenate(values), np.concatenate(digits, 1)
        return cls(bins, labels, num_classes, subjects, num_columns, of_bins, np.array(first), *parts, alphabets or {})

    def beside(self, columns: Columns, pairs: Sequence[Subject], part: Rows | None = None) -> Binned:
        """The table with these pairs, of some of the examples."""
        if part is None:
            return Binned.of(columns, self.labels, self.num_classes, pairs, self.alphabets)
        return Binned.of(columns[part], self.labels[part], self.num_classes, pairs, self.alphabets)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_bins(self) -> int:
        """Of all columns together."""
        return len(self.subject)

    def totals(self, rows: Rows, weights: Floats) -> Floats:
        """Sums of ``weights [len(rows)]`` in each bin, ``[bins]``."""
        inside = self.bins[rows]
        found = np.bincount(inside.ravel(), np.repeat(weights, inside.shape[1]), self.num_bins)
        return found.astype(np.float64, copy=False)

    def counts(self, rows: Rows) -> Counts:
        """Examples of each class in each bin, ``[bins, classes]``."""
        size = self.num_classes
        inside = self.bins[rows].astype(np.int64) * size + self.labels[rows, None]
        found = np.bincount(inside.ravel(), minlength=self.num_bins * size)
        return found.astype(np.intp, copy=False).reshape(-1, size)

    def entropies(self, counts: Counts) -> Floats:
        """``sum_c n_c ln(n / n_c)`` in nats of counts ``[..., classes]`` of its examples."""
        return np.asarray(self._n_log_n[counts.sum(-1)] - self._n_log_n[counts].sum(-1))

    @cached_property
    def _n_log_n(self) -> Floats:
        numbers = np.arange(len(self) + 1, dtype=np.float64)
        return numbers * np.log(np.maximum(numbers, 1))

    def passing(self, totals: Numbers) -> Numbers:
        """For every test the sum over those that pass it, ``[2, bins, ...]``: thresholds, then values."""
        sums = np.cumsum(totals, 0)
        before = np.concatenate([np.zeros_like(sums[:1]), sums])[self.first]
        return np.stack([sums - before[self.subject], totals])

    @property
    def tests(self) -> NDArray[np.bool_]:
        """Which of them are tests, ``[2, bins]``."""
        return ~np.isnan(np.stack([self.threshold, self.value]))

    def test(self, kind: int, number: int) -> Comparison:
        """One of them."""
        value = (self.threshold, self.value)[kind][number]
        return Comparison(self.subjects[self.subject[number]], float(value), kind == 1)

    @cached_property
    def numbers(self) -> dict[Subject, int]:
        """The index of each subject."""
        return {subject: number for number, subject in enumerate(self.subjects)}

    def number(self, test: Comparison) -> int:
        """The index of a test's subject."""
        return self.numbers[test.subject]

    @cached_property
    def threshold_bits(self) -> Floats:
        """What the threshold of a subject's first test costs about, ``[2, bins]``; infinite for what is no test."""
        size = value_bits(np.stack([self.threshold, self.value]), self.digits)
        for column, declared in self.alphabets.items():
            size[:, self.subject == column] = math.log2(len(declared))
        return np.where(self.tests, size + np.array([[0.4], [2.0]]), np.inf)

    def bin_of(self, test: Comparison) -> tuple[int, int]:
        """Kind and bin of a test of this table."""
        if test not in self._places:
            self._places[test] = (int(test.equal), self.passing_bins(test)[1] - 1)
        return self._places[test]

    @cached_property
    def _places(self) -> dict[Comparison, tuple[int, int]]:
        return {}

    def passing_bins(self, test: Comparison) -> tuple[int, int]:
        """The bins ``[start, stop)`` of those that pass a test of this table."""
        number = self.number(test)
        start = int(self.first[number])
        end = int(self.first[number + 1]) if number + 1 < len(self.first) else self.num_bins
        if test.equal:
            alone = start + int(np.flatnonzero(self.value[start:end] == test.value)[0])
            return alone, alone + 1
        return start, start + int(np.searchsorted(self.threshold[start : end - 1], test.value, side="right"))

    def passes(self, test: Comparison, rows: Rows) -> NDArray[np.bool_]:
        """Which of ``rows`` pass a test of this table."""
        start, stop = self.passing_bins(test)
        inside = self.bins[rows, self.number(test)]
        return np.asarray((inside >= start) & (inside < stop))


def _digits_of(values: Floats) -> NDArray[np.intp]:
    known = np.where(np.isnan(values) | (values == 0), 1.0, np.abs(values))
    wholes = (np.frexp(known)[0] * (1 << MAX_DIGITS + 1)).astype(np.int64)
    spare = np.log2((wholes & -wholes).astype(np.float64)).astype(np.intp)
    return MAX_DIGITS - spare
