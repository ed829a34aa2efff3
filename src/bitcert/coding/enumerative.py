"""Sparse integer arrays by enumeration: how many non-zeros each row (and column) has, where they are, what they are.

With ``k_i`` non-zeros in row ``i`` of ``n`` columns the support of the row is one of ``C(n, k_i)`` sets. Going through
the columns, the next flag of the row is one with probability ``k_i left / columns left`` (the hypergeometric law), and
arithmetic coding under it costs ``log2 C(n, k_i)`` bits whatever the support is: the enumerative limit (Cover 1973),
reached without a number of that size. Flags that are certain cost nothing.

Three modes, the shortest is written: rows (row counts, columns in use, supports of the rows), columns (the same of the
transpose), and *margins*: the counts of rows and of columns, then the flags along the antidiagonals, each with odds

    O(r_i c_j / N) * [O(k_i / n_i) / O(E k_i / n_i)] * [O(l_j / m_j) / O(E l_j / m_j)],     O(p) = p / (1 - p),

where ``k_i`` ones are left for the ``n_i`` flags left in row ``i`` (``l_j``, ``m_j`` in column ``j``) and
``E k_i = r_i sum_{j' >= j} c_j' / N`` is what one would expect to be left. With equal columns the first two factors are
the hypergeometric odds of the row. This is a heuristic for the number of 0/1 matrices with given margins, which has no
closed form; on pruned networks it is well below the rows' own limit, because pruning empties columns unevenly too.

Source: Guha 2023, Lemma D.1 counts ``log2 C(d1 d2, nnz)`` (rows are enumerated here). numpy and constriction only; all
probabilities are quotients and products of integers, rounded as IEEE 754 demands, so every machine reads the same
array. In one mode an array has exactly one encoding; the reader does not ask whether another mode was shorter. Not
provided: anything for arrays without many zeros, which :class:`Enumerative` does not offer to write.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from bitcert.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, FlagCoder
from bitcert.coding.bitstream import BitReader, Bits, BitWriter
from bitcert.coding.tensors import (
    MAX_MAGNITUDE,
    UNARY_MAGNITUDES,
    Given,
    Integers,
    blank,
    code_integers,
    code_nonzero,
    max_flags,
)
from bitcert.errors import DecodeError

MAX_LINES = 1 << 15
"""Most rows plus columns of an array: the work goes line by line."""
MAX_CELLS = 1 << 22
"""Most entries inside rows and columns in use."""

_MODE_BITS = 2
_SMALL = 1 << 12
_UNEVEN = 1.25
"""Arrays above this many entries are tried when the variance of their counts is this many times the binomial one."""
_LARGEST = 1 - 2.0**-5
"""Expected fractions are kept at or below this, so that odds stay finite."""

Probabilities = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Mode(IntEnum):
    """Which margins of the support are stated before it."""

    ROWS = 0
    COLUMNS = 1
    MARGINS = 2


class Enumerative:
    """Row counts and supports by enumeration, then the values of what is not zero."""

    def fits(self, integers: Integers) -> bool:
        """Whether the array is within the limits and worth trying.

        That is: a quarter of the entries in rows and columns in use is zero, and the array is small or its rows or
        columns differ in density by more than chance (else plain adaptive flags are as short, and faster).
        """
        if not _within_limits(integers.shape):
            return False
        support = integers.reshape(_matrix_shape(integers.shape)) != 0
        rows, columns = support.sum(1), support.sum(0)
        cells, ones = int(np.count_nonzero(rows)) * int(np.count_nonzero(columns)), int(rows.sum())
        if cells > MAX_CELLS or 4 * ones > 3 * cells:
            return False
        spread = max(_dispersion(rows, len(columns)), _dispersion(columns, len(rows)))
        return support.size <= _SMALL or spread > _UNEVEN

    def write(self, bits: BitWriter, integers: Integers) -> None:
        """Append the shortest mode and the array.

        Raises:
            ValueError: a magnitude above :data:`~bitcert.coding.tensors.MAX_MAGNITUDE`, or an array beyond the limits.
        """
        if not _within_limits(integers.shape):
            raise ValueError("an array beyond the limits of enumeration")
        trials = [encode_mode(integers, mode) for mode in Mode]
        bits.extend(min(trials, key=len))

    def read(self, bits: BitReader, shape: tuple[int, ...]) -> Integers:
        """The inverse of :meth:`write`.

        Raises:
            DecodeError: a shape beyond the limits, an unknown mode, counts that no support has.
        """
        if not _within_limits(shape):
            raise _malformed("an array within the limits of enumeration", f"shape {list(shape)}")
        number = bits.binary(_MODE_BITS)
        if number not in tuple(Mode):
            raise _malformed("a mode of enumeration that this version knows", f"number {number}")
        mode, lines = Mode(number), _matrix_shape(shape)
        lines = lines[::-1] if mode is Mode.COLUMNS else lines
        decoder = ArithmeticDecoder(bits, max_flags(lines[0] * lines[1] + sum(lines)))
        matrix = _code_matrix(decoder, mode, blank(*lines))
        decoder.finish()
        return (matrix.T if mode is Mode.COLUMNS else matrix).reshape(shape)


def encode_mode(integers: Integers, mode: Mode) -> Bits:
    """The one bit string that is this array in this mode."""
    matrix = integers.reshape(_matrix_shape(integers.shape))
    matrix = matrix.T if mode is Mode.COLUMNS else matrix
    encoder, number = ArithmeticEncoder(), BitWriter()
    _code_matrix(encoder, mode, matrix)
    number.binary(mode, _MODE_BITS)
    number.extend(encoder.bits())
    return number.bits()


def _malformed(expected: str, got: str) -> DecodeError:
    return DecodeError(expected, got, "ask for the file again")


def _matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """A vector is one row; of other arrays the first axis makes the rows."""
    rows = shape[0] if len(shape) > 1 else 1
    return rows, math.prod(shape) // rows


def _within_limits(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 1 and 0 not in shape and sum(_matrix_shape(shape)) <= MAX_LINES


def _dispersion(counts: Integers, length: int) -> float:
    """Variance of the ones in lines of ``length`` over that of as many ones thrown at random; 0 where it has none."""
    mean = float(counts.mean())
    expected = mean * (1 - mean / length)
    return float(counts.var()) / expected if expected > 0 else 0.0


def _code_matrix(coder: FlagCoder, mode: Mode, given: Given) -> Integers:
    """Code ``given [rows, columns]``, of which a reader uses the shape only, and return it."""
    support = _code_support(coder, mode, given != 0)
    matrix = np.zeros(given.shape, dtype=np.int64)
    matrix[support] = code_nonzero(coder, given[support], _code_tail)
    return matrix


def _code_support(coder: FlagCoder, mode: Mode, support: Mask) -> Mask:
    """Code ``support [rows, columns]``, of which a reader uses the shape only, and return it.

    Raises:
        DecodeError: counts that contradict each other, columns in use with nothing in them, too many cells.
    """
    rows = _code_counts(coder, support.sum(1))
    if mode is Mode.MARGINS:
        columns = _code_counts(coder, support.sum(0))
    else:
        columns = coder.flags(np.asarray(support.any(0), dtype=np.bool_)).astype(np.int64)
    used_rows, used_columns = np.flatnonzero(rows), np.flatnonzero(columns)
    if len(used_rows) * len(used_columns) > MAX_CELLS:
        raise _malformed(f"at most {MAX_CELLS:,} entries in rows and columns in use", "more")
    if rows.max(initial=0) > len(used_columns) or columns.max(initial=0) > len(used_rows):
        raise _malformed("counts within a line's length", "a larger one")
    inside = np.ix_(used_rows, used_columns)
    result = np.zeros(support.shape, dtype=bool)
    if mode is Mode.MARGINS:
        result[inside] = _code_by_margins(coder, support[inside], rows[used_rows], columns[used_columns])
    else:
        result[inside] = _code_by_rows(coder, support[inside], rows[used_rows])
    return result


def _code_by_rows(coder: FlagCoder, given: Mask, counts: Integers) -> Mask:
    """The support inside rows and columns in use: column by column, each flag with its row's hypergeometric chance."""
    left = counts
    inside = np.zeros(given.shape, dtype=bool)
    for j in range(given.shape[1]):
        places = given.shape[1] - j
        inside[:, j] = left == places
        (open_rows,) = np.nonzero((left > 0) & (left < places))
        inside[open_rows, j] = coder.known(given[open_rows, j], left[open_rows] / places)
        if not inside[:, j].any():
            raise _malformed("something in every column in use", "nothing")
        left = left - inside[:, j]
    return inside


def _code_by_margins(coder: FlagCoder, given: Mask, r: Integers, c: Integers) -> Mask:
    """The same from the counts of rows and columns: no two cells of an antidiagonal share a row or a column."""
    num_rows, num_columns, total = len(r), len(c), int(r.sum())
    if total != int(c.sum()):
        raise _malformed("row and column counts of one support", "different sums")
    rows_after, columns_after = np.cumsum(r[::-1])[::-1], np.cumsum(c[::-1])[::-1]
    row_left, column_left = r.copy(), c.copy()
    inside = np.zeros((num_rows, num_columns), dtype=bool)
    for diagonal in range(num_rows + num_columns - 1):
        i = np.arange(max(0, diagonal - num_columns + 1), min(num_rows, diagonal + 1))
        j = diagonal - i
        none = (row_left[i] == 0) | (column_left[j] == 0)
        all_left = (row_left[i] == num_columns - j) | (column_left[j] == num_rows - i)
        if (none & all_left).any():
            raise _malformed("row and column counts of one support", "counts that contradict each other")
        flags = all_left
        (open_,) = np.nonzero(~none & ~all_left)
        io, jo = i[open_], j[open_]
        odds = _odds(r[io] * c[jo], total)
        odds *= _odds(row_left[io], num_columns - jo) / _odds(r[io] * columns_after[jo], total * (num_columns - jo))
        odds *= _odds(column_left[jo], num_rows - io) / _odds(c[jo] * rows_after[io], total * (num_rows - io))
        flags[open_] = coder.known(given[io, jo], odds / (1 + odds))
        inside[i, j] = flags
        row_left[i] -= flags
        column_left[j] -= flags
    return inside


def _odds(part: Integers, whole: Integers | int) -> Probabilities:
    """``p / (1 - p)`` of ``p = part / whole``, kept finite."""
    fraction = np.minimum(part / whole, _LARGEST)
    odds: Probabilities = fraction / (1 - fraction)
    return odds


def _code_counts(coder: FlagCoder, counts: Integers) -> Integers:
    """Code non-negative ``counts [n]``: is it zero, how many binary digits, the second digit, the others."""
    used = np.flatnonzero(coder.flags(counts > 0))
    known = counts[used]
    num_digits = np.ones(len(used), dtype=np.int64)
    going = np.arange(len(used))
    for level in range(1, MAX_LINES.bit_length()):
        going = going[coder.flags(known[going] >= 1 << level)]
        num_digits[going] += 1
    values = np.ones(len(used), dtype=np.int64)
    for length in range(2, MAX_LINES.bit_length() + 1):
        (these,) = np.nonzero(num_digits == length)
        for place in range(length - 2, -1, -1) if len(these) else ():
            digits = (known[these] >> place) & 1 == 1
            flags = coder.flags(digits) if place == length - 2 else coder.raw(digits)
            values[these] = 2 * values[these] + flags
    result = np.zeros(len(counts), dtype=np.int64)
    result[used] = values
    return result


def _code_tail(coder: FlagCoder, given: Given) -> Integers:
    """What is left of magnitudes above the unary part, coded as integers from 0.

    Raises:
        DecodeError: a magnitude above :data:`~bitcert.coding.tensors.MAX_MAGNITUDE`.
    """
    excess = code_integers(coder, given - 1)
    if excess.min(initial=0) < 0 or excess.max(initial=0) >= MAX_MAGNITUDE - UNARY_MAGNITUDES:
        raise _malformed(f"magnitudes of at most {MAX_MAGNITUDE}", "another one")
    return excess + 1
