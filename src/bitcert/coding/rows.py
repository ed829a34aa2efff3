"""An integer matrix of which few rows are used: which rows, which entries of them, signs and magnitudes.

A head that selects from thousands of helper features uses the same few for several classes. Coding first which rows
are used makes an unused feature nearly free: with ``n`` of ``N`` rows used that part takes about ``log2 C(N, n)``
bits, so a dictionary twice as large costs one more bit for each row used.

The chance that a row is used is estimated in each group of rows from what came before, shrunk towards the estimate
over all groups (``a = 16`` pseudo-rows): ``(n1_g + a p) / (n_g + a)`` with ``p = (n1 + 1) / (n + 16)``, a quotient of
two integers, so every machine decodes the same rows. A row that is used has an entry other than zero: where all before
the last one are zeros, the last is known. Rows that are always there (a constant) are counted apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitcert.coding.arithmetic import Counts, FlagCoder, adaptive_code_bits
from bitcert.coding.tensors import Given, Integers, code_nonzero, marginal_nonzero_bits, nonzero_code_bits

_PSEUDO_ROWS = 16
_PRIOR_ROWS = 16

Groups = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class RowModel:
    """What both sides know of a matrix: its shape and the groups of its rows.

    Args:
        groups: ``[rows]`` small integers; -1 marks a row that is always there.
        columns: entries of a row.
    """

    groups: Groups
    columns: int

    @property
    def optional(self) -> NDArray[np.intp]:
        """Indices of the rows that may be unused."""
        return np.flatnonzero(self.groups >= 0)

    @property
    def always(self) -> NDArray[np.intp]:
        """Indices of the rows that are always there."""
        return np.flatnonzero(self.groups < 0)

    def prices(self, matrix: Integers) -> RowPrices:
        """What changes of ``matrix [rows, columns]`` cost now."""
        return row_prices(matrix, self)

    def code_bits(self, matrix: Integers) -> float:
        """Ideal length of ``matrix [rows, columns]``."""
        return row_code_bits(matrix, self)


class RowCounts(Counts):
    """Rows seen so far in each group, unused (zeros) and used (ones)."""

    def chances(self) -> NDArray[np.float64]:
        """Probability of a used row in each group."""
        rows = self.zeros + self.ones
        used, seen = int(self.ones.sum()) + 1, int(rows.sum()) + _PRIOR_ROWS
        numerator = self.ones * seen + _PSEUDO_ROWS * used
        return np.asarray(numerator / ((rows + _PSEUDO_ROWS) * seen), dtype=np.float64)


def code_rows(coder: FlagCoder, given: Given, model: RowModel) -> Integers:
    """Code ``given [rows, columns]`` and return it; a reader uses its shape only.

    Raises:
        DecodeError: when a magnitude is larger than any that is written.
    """
    nonzero = given != 0
    optional, groups = model.optional, model.groups[model.optional]
    counts = RowCounts(int(groups.max(initial=0)) + 1)
    used = coder.counted(nonzero[optional].any(1), groups, counts)
    inside = nonzero[optional[used]]
    shape = model.columns - 1, len(inside)
    inside[:, :-1] = coder.flags(inside[:, :-1].T.ravel()).reshape(shape).T
    open_rows = inside[:, :-1].any(1)
    inside[~open_rows, -1] = True
    inside[open_rows, -1] = coder.flags(inside[open_rows, -1])
    always = coder.flags(nonzero[model.always].ravel()).reshape(-1, model.columns)
    order, present = np.concatenate([optional[used], model.always]), np.concatenate([inside, always])
    alive = code_nonzero(coder, given[order][present])
    values = np.zeros(present.shape, dtype=np.int64)
    values[present] = alive
    matrix = np.zeros(given.shape, dtype=np.int64)
    matrix[order] = values
    return matrix


@dataclass(frozen=True, eq=False)
class RowPrices:
    """What changes of a matrix cost now, in bits.

    Args:
        used: ``[rows]`` of saying that a row is used (0 for one that is always there).
        unused: ``[rows]`` of saying that it is not.
        entries: ``[2 * limit + 1]`` of an entry ``-limit .. limit`` of a row that is used.
    """

    used: NDArray[np.float64]
    unused: NDArray[np.float64]
    entries: NDArray[np.float64]

    def of(self, rows: NDArray[np.intp], values: Integers, model: RowModel) -> NDArray[np.float64]:
        """Cost ``[k]`` of rows that hold ``values [k, columns]``."""
        limit = len(self.entries) // 2
        inside = self.used[rows] + self.entries[values + limit].sum(1)
        empty = ~(values != 0).any(1) & (model.groups[rows] >= 0)
        return np.where(empty, self.unused[rows], inside)


def row_prices(matrix: Integers, model: RowModel) -> RowPrices:
    """Prices at the counts of ``matrix [rows, columns]``; differences of them rank changes."""
    used = (matrix != 0).any(1)
    optional, groups = model.optional, model.groups[model.optional]
    size = int(groups.max(initial=0)) + 1
    seen = np.bincount(groups, minlength=size)
    ones = np.bincount(groups[used[optional]], minlength=size)
    overall = (ones.sum() + 1) / (seen.sum() + _PRIOR_ROWS)
    chance = ((ones + _PSEUDO_ROWS * overall) / (seen + _PSEUDO_ROWS))[groups]
    on, off = np.zeros(len(matrix)), np.zeros(len(matrix))
    on[optional], off[optional] = -np.log2(chance), -np.log2(1 - chance)
    return RowPrices(on, off, entry_prices(matrix, matrix[optional][used[optional]]))


def entry_prices(matrix: Integers, inside: Integers) -> NDArray[np.float64]:
    """Cost ``[2 * limit + 1]`` of an entry ``-limit .. limit`` of a row in use; ``inside`` are such rows."""
    nonzero = int((inside != 0).sum())
    # Half a row of the usual density is assumed, so that the first row has a fair price.
    dense = (nonzero + 2.0) / (inside.size + 5.0)
    values = marginal_nonzero_bits(matrix[matrix != 0])
    limit = len(values) // 2
    entries = values - np.log2(dense)
    entries[limit] = -np.log2(1 - dense)
    return np.asarray(entries, dtype=np.float64)


def row_code_bits(matrix: Integers, model: RowModel) -> float:
    """Ideal length in bits, for choosing between matrices; a certificate uses the length of the written file."""
    from scipy.special import gammaln  # takes a third of a second to load

    nonzero = matrix != 0
    optional, groups = model.optional, model.groups[model.optional]
    used = nonzero[optional].any(1)
    size = int(groups.max(initial=0)) + 1
    seen, ones = np.bincount(groups, minlength=size), np.bincount(groups[used], minlength=size)
    overall = (ones.sum() + 1) / (seen.sum() + _PRIOR_ROWS)
    a, b = _PSEUDO_ROWS * overall, _PSEUDO_ROWS * (1 - overall)
    nats = gammaln(ones + a) + gammaln(seen - ones + b) - gammaln(seen + a + b)
    nats += gammaln(a + b) - gammaln(a) - gammaln(b)
    learning = np.log2(1 + len(optional) / _PRIOR_ROWS) / 2
    inside, always = nonzero[optional[used]], nonzero[model.always]
    flags = inside[:, :-1]
    last = inside[flags.any(1), -1]
    bits = learning - float(nats.sum()) / np.log(2) + nonzero_code_bits(matrix[nonzero])
    for part in (flags, last, always):
        bits += adaptive_code_bits(int(part.size - part.sum()), int(part.sum()))
    return float(bits)
