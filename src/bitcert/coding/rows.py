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
from scipy.special import gammaln

from bitcert.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, adaptive_code_bits, blocks
from bitcert.coding.tensors import Integers, decode_nonzero, encode_nonzero, marginal_nonzero_bits, nonzero_code_bits

_PSEUDO_ROWS = 16
_PRIOR_ROWS = 16

Groups = NDArray[np.intp]
Flags = NDArray[np.bool_]


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


class _RowCounts:
    """Rows seen so far and those of them that were used, by group."""

    def __init__(self, groups: Groups) -> None:
        self._seen = np.zeros(int(groups.max(initial=0)) + 1, dtype=np.int64)
        self._used = np.zeros_like(self._seen)

    def probabilities(self, groups: Groups) -> NDArray[np.float64]:
        used, seen = int(self._used.sum()) + 1, int(self._seen.sum()) + _PRIOR_ROWS
        numerator = self._used * seen + _PSEUDO_ROWS * used
        probabilities = numerator / ((self._seen + _PSEUDO_ROWS) * seen)
        return np.asarray(probabilities[groups], dtype=np.float64)

    def update(self, flags: Flags, groups: Groups) -> None:
        np.add.at(self._used, groups[flags], 1)
        np.add.at(self._seen, groups, 1)


def encode_rows(encoder: ArithmeticEncoder, matrix: Integers, model: RowModel) -> None:
    """Append ``matrix [rows, columns]``."""
    nonzero = matrix != 0
    optional, groups = model.optional, model.groups[model.optional]
    used = nonzero[optional].any(1)
    counts = _RowCounts(groups)
    for block in blocks(len(optional)):
        encoder.known(used[block], counts.probabilities(groups[block]))
        counts.update(used[block], groups[block])
    inside = nonzero[optional[used]]
    encoder.flags(inside[:, :-1].T.ravel())
    open_rows = inside[:, :-1].any(1)
    encoder.flags(inside[open_rows, -1])
    encoder.flags(nonzero[model.always].ravel())
    order = np.concatenate([optional[used], model.always])
    values = matrix[order]
    encode_nonzero(encoder, values[values != 0])


def decode_rows(decoder: ArithmeticDecoder, model: RowModel) -> Integers:
    """The inverse of :func:`encode_rows`.

    Raises:
        DecodeError: when a magnitude is larger than any that is written.
    """
    optional, groups, columns = model.optional, model.groups[model.optional], model.columns
    used = np.zeros(len(optional), dtype=bool)
    counts = _RowCounts(groups)
    for block in blocks(len(optional)):
        used[block] = decoder.known(counts.probabilities(groups[block]))
        counts.update(used[block], groups[block])
    num_used = int(used.sum())
    inside = np.ones((num_used, columns), dtype=bool)
    inside[:, :-1] = decoder.flags(num_used * (columns - 1)).reshape(columns - 1, num_used).T
    open_rows = inside[:, :-1].any(1)
    inside[open_rows, -1] = decoder.flags(int(open_rows.sum()))
    always = decoder.flags(len(model.always) * columns).reshape(-1, columns)
    present = np.concatenate([inside, always])
    values = np.zeros(present.shape, dtype=np.int64)
    values[present] = decode_nonzero(decoder, int(present.sum()))
    matrix = np.zeros((len(model.groups), columns), dtype=np.int64)
    matrix[np.concatenate([optional[used], model.always])] = values
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
    inside = matrix[optional][used[optional]]
    nonzero = int((inside != 0).sum())
    # Half a row of the usual density is assumed, so that the first row has a fair price.
    dense = (nonzero + 2.0) / (inside.size + 5.0)
    values = marginal_nonzero_bits(matrix[matrix != 0])
    limit = len(values) // 2
    entries = values - np.log2(dense)
    entries[limit] = -np.log2(1 - dense)
    return RowPrices(on, off, entries)


def row_code_bits(matrix: Integers, model: RowModel) -> float:
    """Ideal length in bits, for choosing between matrices; a certificate uses the length of the written file."""
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
