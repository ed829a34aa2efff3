"""Layouts: an integer tensor as masks of the rows, columns and filters in use, and the entries inside them.

A pruned unit leaves a whole row (its weights) and a whole column (of the next tensor) of zeros; saying so costs a
fraction of a bit each. A filter is what lies behind one (row, column) of a tensor of three or more axes. Which units of
the tensor before were silent is the context of the columns and biases that follow (:class:`UnitsInUse`). numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitcert.coding.arithmetic import FlagCoder, adaptive_code_bits
from bitcert.coding.tensors import Given, Integers, code_integers, integer_code_bits

PLAIN, ROWS, COLUMNS, FILTERS = range(4)
"""Layouts: every entry; entries of the rows in use; of rows and columns in use; of filters in use."""

Mask = NDArray[np.bool_]


class UnitsInUse:
    """Which output units of the latest weight tensor hold anything: the context of what follows it."""

    def __init__(self) -> None:
        self._mask: Mask = np.ones(1, dtype=bool)

    def contexts(self, num_units: int) -> NDArray[np.intp]:
        """Context of each of ``num_units`` inputs (a flattened map repeats its channel) or biases."""
        length = len(self._mask)
        if length < 2 or num_units % length:
            return np.zeros(num_units, dtype=np.intp)
        return np.repeat(self._mask, num_units // length).astype(np.intp)

    def update(self, values: Integers) -> None:
        """Note a tensor that has just been coded, in its own shape."""
        if values.ndim >= 2 and values.size:
            self._mask = (values != 0).reshape(len(values), -1).any(1)
        elif values.ndim == 1 and len(values) == len(self._mask):
            self._mask = self._mask | (values != 0)


@dataclass(frozen=True, eq=False)
class _Masks:
    """Rows, columns and filters in use of a tensor ``[rows, columns, inner]``, as far as the layout codes them."""

    layout: int
    rows: Mask
    columns: Mask
    filters: Mask

    @classmethod
    def of(cls, values: Given, layout: int) -> _Masks:
        used = (values != 0).any(2)
        rows, columns = np.ones(values.shape[0], dtype=bool), np.ones(values.shape[1], dtype=bool)
        if layout >= ROWS:
            rows = used.any(1)
        if layout >= COLUMNS:
            columns = used.any(0)
        inside = np.outer(rows, columns)
        return cls(layout, rows, columns, inside & used if layout == FILTERS else inside)

    def bits(self, values: Given, contexts: NDArray[np.intp]) -> float:
        """Ideal length of the tensor in this layout."""
        bits = integer_code_bits(values[self.filters])
        if self.layout >= ROWS:
            bits += _flag_bits(self.rows)
        if self.layout >= COLUMNS:
            bits += sum(_flag_bits(self.columns[contexts == c]) for c in (0, 1))
        if self.layout == FILTERS:
            bits += _flag_bits(self.filters[np.outer(self.rows, self.columns)])
        return bits


def _flag_bits(flags: Mask) -> float:
    num_ones = int(flags.sum())
    return adaptive_code_bits(len(flags) - num_ones, num_ones)


def _blocked(values: Given) -> Given:
    """A tensor of two or more axes as ``[rows, columns, inner]``."""
    return values.reshape(values.shape[0], values.shape[1], -1)


def has_layout(shape: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape has rows and columns."""
    return len(shape) >= 2 and 0 not in shape


def tensor_code_bits(values: Integers, units: UnitsInUse) -> tuple[float, int]:
    """Ideal length in bits of one tensor without its exponent, and the shortest layout."""
    if not has_layout(values.shape):
        contexts = units.contexts(values.size)
        bits = sum(integer_code_bits(values.ravel()[contexts == c]) for c in (0, 1) if (contexts == c).any())
        return bits, PLAIN
    blocked = _blocked(values)
    contexts = units.contexts(blocked.shape[1])
    layouts = (PLAIN, ROWS, COLUMNS, FILTERS) if blocked.shape[2] > 1 else (PLAIN, ROWS, COLUMNS)
    return min((_Masks.of(blocked, layout).bits(blocked, contexts), layout) for layout in layouts)


def code_layout(coder: FlagCoder, given: Given, layout: int, units: UnitsInUse) -> Integers:
    """Code a tensor in a layout that :func:`tensor_code_bits` chose, and return it; a reader uses its shape only."""
    if not has_layout(given.shape):
        return code_integers(coder, given, units.contexts(given.size))
    blocked = _blocked(given)
    masks = _Masks.of(blocked, layout)
    rows = coder.flags(masks.rows) if layout >= ROWS else masks.rows
    columns = masks.columns
    if layout >= COLUMNS:
        columns = coder.flags(columns, units.contexts(len(columns)))
    filters = np.outer(rows, columns)
    if layout == FILTERS:
        filters[filters] = coder.flags(masks.filters[filters])
    coded = np.zeros(blocked.shape, dtype=np.int64)
    coded[filters] = code_integers(coder, blocked[filters])
    return coded.reshape(given.shape)
