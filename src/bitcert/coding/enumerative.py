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
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bitcert.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, Flags
from bitcert.coding.bitstream import BitReader, Bits, BitWriter
from bitcert.coding.tensors import (
    MAX_MAGNITUDE,
    UNARY_MAGNITUDES,
    Integers,
    decode_integers,
    encode_integers,
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


class _Port(Protocol):
    """One end of the code: the encoder knows the flags, the decoder returns them."""

    def adaptive(self, flags: Flags) -> Flags:
        """``flags`` under adaptive counts; a decoder uses their number only."""
        ...

    def raw(self, flags: Flags) -> Flags:
        """``flags`` at one bit each; a decoder uses their number only."""
        ...

    def cells(self, rows: Integers, columns: Integers, probabilities: Probabilities) -> Flags:
        """The support at these places, given probabilities of a one."""
        ...


class _Encoding:
    def __init__(self, encoder: ArithmeticEncoder, support: Mask) -> None:
        self._encoder, self._support = encoder, support

    def adaptive(self, flags: Flags) -> Flags:
        self._encoder.flags(flags)
        return flags

    def raw(self, flags: Flags) -> Flags:
        self._encoder.raw(flags)
        return flags

    def cells(self, rows: Integers, columns: Integers, probabilities: Probabilities) -> Flags:
        flags: Flags = self._support[rows, columns]
        self._encoder.known(flags, probabilities)
        return flags


class _Decoding:
    def __init__(self, decoder: ArithmeticDecoder) -> None:
        self._decoder = decoder

    def adaptive(self, flags: Flags) -> Flags:
        return self._decoder.flags(len(flags))

    def raw(self, flags: Flags) -> Flags:
        return self._decoder.raw(len(flags))

    def cells(self, rows: Integers, columns: Integers, probabilities: Probabilities) -> Flags:
        return self._decoder.known(probabilities)


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
        support = _code_support(_Decoding(decoder), mode, np.zeros(lines, dtype=bool))
        matrix = np.zeros(lines, dtype=np.int64)
        matrix[support] = _decode_values(decoder, int(support.sum()))
        decoder.finish()
        return (matrix.T if mode is Mode.COLUMNS else matrix).reshape(shape)


def encode_mode(integers: Integers, mode: Mode) -> Bits:
    """The one bit string that is this array in this mode."""
    matrix = integers.reshape(_matrix_shape(integers.shape))
    matrix = matrix.T if mode is Mode.COLUMNS else matrix
    encoder, number = ArithmeticEncoder(), BitWriter()
    _code_support(_Encoding(encoder, matrix != 0), mode, matrix != 0)
    _encode_values(encoder, matrix[matrix != 0])
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


def _code_support(port: _Port, mode: Mode, support: Mask) -> Mask:
    """Code ``support [rows, columns]``, of which a decoder uses the shape only, and return it.

    Raises:
        DecodeError: counts that contradict each other, columns in use with nothing in them, too many cells.
    """
    rows = _code_counts(port, support.sum(1))
    if mode is Mode.MARGINS:
        columns = _code_counts(port, support.sum(0))
    else:
        columns = port.adaptive(np.asarray(support.any(0), dtype=np.bool_)).astype(np.int64)
    used_rows, used_columns = np.flatnonzero(rows), np.flatnonzero(columns)
    if len(used_rows) * len(used_columns) > MAX_CELLS:
        raise _malformed(f"at most {MAX_CELLS:,} entries in rows and columns in use", "more")
    if rows.max(initial=0) > len(used_columns) or columns.max(initial=0) > len(used_rows):
        raise _malformed("counts within a line's length", "a larger one")
    cells = _Cells(port, used_rows, used_columns)
    inside = cells.by_margins(rows, columns) if mode is Mode.MARGINS else cells.by_rows(rows)
    result = np.zeros(support.shape, dtype=bool)
    result[np.ix_(used_rows, used_columns)] = inside
    return result


@dataclass(frozen=True, eq=False)
class _Cells:
    """The support inside the rows and columns in use, whose numbers in the whole are given."""

    port: _Port
    rows: Integers
    columns: Integers

    def by_rows(self, counts: Integers) -> Mask:
        """Column by column, each flag with the hypergeometric probability of its row."""
        left = counts[self.rows]
        inside = np.zeros((len(self.rows), len(self.columns)), dtype=bool)
        for j, column in enumerate(self.columns):
            places = len(self.columns) - j
            inside[:, j] = left == places
            (open_rows,) = np.nonzero((left > 0) & (left < places))
            where = np.full(len(open_rows), column)
            inside[open_rows, j] = self.port.cells(self.rows[open_rows], where, left[open_rows] / places)
            if not inside[:, j].any():
                raise _malformed("something in every column in use", "nothing")
            left = left - inside[:, j]
        return inside

    def by_margins(self, row_counts: Integers, column_counts: Integers) -> Mask:
        """Antidiagonal by antidiagonal: no two cells of one share a row or a column."""
        r, c = row_counts[self.rows], column_counts[self.columns]
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
            flags[open_] = self.port.cells(self.rows[io], self.columns[jo], odds / (1 + odds))
            inside[i, j] = flags
            row_left[i] -= flags
            column_left[j] -= flags
        return inside


def _odds(part: Integers, whole: Integers | int) -> Probabilities:
    """``p / (1 - p)`` of ``p = part / whole``, kept finite."""
    fraction = np.minimum(part / whole, _LARGEST)
    odds: Probabilities = fraction / (1 - fraction)
    return odds


def _code_counts(port: _Port, counts: Integers) -> Integers:
    """Code non-negative ``counts [n]``: is it zero, how many binary digits, the second digit, the others."""
    used = np.flatnonzero(port.adaptive(counts > 0))
    known = counts[used]
    num_known = np.frexp(known.astype(np.float64))[1]
    num_digits = np.ones(len(used), dtype=np.int64)
    going = np.arange(len(used))
    for level in range(1, MAX_LINES.bit_length()):
        going = going[port.adaptive(num_known[going] > level)]
        num_digits[going] += 1
    values = np.ones(len(used), dtype=np.int64)
    for length in range(2, MAX_LINES.bit_length() + 1):
        (these,) = np.nonzero(num_digits == length)
        for place in range(length - 2, -1, -1) if len(these) else ():
            digits = (known[these] >> place) & 1 == 1
            flags = port.adaptive(digits) if place == length - 2 else port.raw(digits)
            values[these] = 2 * values[these] + flags
    result = np.zeros(len(counts), dtype=np.int64)
    result[used] = values
    return result


def _encode_values(encoder: ArithmeticEncoder, values: Integers) -> None:
    """Append the signs and magnitudes of ``values [n]``, none of them zero."""
    encoder.flags(values > 0)
    left = np.abs(values)
    if left.max(initial=0) > MAX_MAGNITUDE:
        raise ValueError(f"magnitudes above {MAX_MAGNITUDE} are not coded")
    for level in range(1, UNARY_MAGNITUDES + 1):
        encoder.flags(left > level)
        left = left[left > level]
    encode_integers(encoder, left - UNARY_MAGNITUDES - 1)


def _decode_values(decoder: ArithmeticDecoder, num_values: int) -> Integers:
    """The inverse of :func:`_encode_values`.

    Raises:
        DecodeError: a magnitude above :data:`~bitcert.coding.tensors.MAX_MAGNITUDE`.
    """
    positive = decoder.flags(num_values)
    magnitudes = np.ones(num_values, dtype=np.int64)
    going = np.arange(num_values)
    for _ in range(UNARY_MAGNITUDES):
        going = going[decoder.flags(len(going))]
        magnitudes[going] += 1
    excess = decode_integers(decoder, len(going))
    magnitudes[going] += excess
    if excess.min(initial=0) < 0 or magnitudes.max(initial=0) > MAX_MAGNITUDE:
        raise _malformed(f"magnitudes of at most {MAX_MAGNITUDE}", "another one")
    return np.where(positive, magnitudes, -magnitudes)
