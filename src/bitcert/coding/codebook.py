"""A codebook: few distinct integers, sent once in increasing order, then which of them each entry is.

The index of an entry goes through a binary tree over the sorted levels, one adaptive flag per node on its way
(:mod:`bitcert.coding.arithmetic`), so ``n`` entries cost about ``n H`` bits with ``H`` the entropy of the levels, plus
half a logarithm of ``n`` for each inner node. Learned levels of a quantiser need not be evenly spaced; against the
unary flags of :mod:`bitcert.coding.tensors` this code does not pay for magnitudes that nothing takes. numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bitcert.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, FlagCoder
from bitcert.coding.bitstream import BitReader, BitWriter
from bitcert.coding.tensors import MAX_MAGNITUDE, Given, Integers, blank
from bitcert.errors import DecodeError

MAX_LEVELS = 256
_WORTH = 4
"""Tried where there are at least this many entries for each level."""


class Codebook:
    """The coder of arrays with few distinct values; number 3 in :data:`bitcert.coding.coders.CODERS`."""

    def fits(self, integers: Integers) -> bool:
        """At most 256 levels, and more entries than they are worth."""
        if not integers.size or np.abs(integers).max() > MAX_MAGNITUDE:
            return False
        num_levels = len(np.unique(integers))
        return num_levels <= MAX_LEVELS and _WORTH * num_levels <= integers.size

    def write(self, bits: BitWriter, integers: Integers) -> None:
        """Append the levels and the indices."""
        levels, indices = np.unique(integers, return_inverse=True)
        bits.elias_delta(len(levels))
        bits.signed(int(levels[0]))
        for gap in np.diff(levels):
            bits.elias_delta(int(gap))
        encoder = ArithmeticEncoder()
        _code_indices(encoder, indices.ravel(), len(levels))
        bits.extend(encoder.bits())

    def read(self, bits: BitReader, shape: tuple[int, ...]) -> Integers:
        """The inverse of :meth:`write`.

        Raises:
            DecodeError: too many levels, levels out of range, or a level that no entry takes.
        """
        size = math.prod(shape)
        levels = _read_levels(bits, size)
        decoder = ArithmeticDecoder(bits, max(1, len(levels) - 1).bit_length() * size)
        indices = _code_indices(decoder, blank(size), len(levels))
        decoder.finish()
        if len(np.unique(indices)) != len(levels):
            raise DecodeError("a codebook whose levels are all in use", "an unused level", "ask for the file again")
        return levels[indices].reshape(shape)


def _code_indices(coder: FlagCoder, given: Given, num_levels: int) -> Integers:
    """Code which level each entry is, and return it; a reader uses the number of entries only."""
    prefix = np.zeros(len(given), dtype=np.int64)
    for depth, asked in _questions(num_levels):
        open_ = asked[prefix]
        flags = np.zeros(len(given), dtype=np.int64)
        flags[open_] = coder.flags((given[open_] >> depth) & 1 == 1, prefix[open_].astype(np.intp))
        prefix = 2 * prefix + flags
    return prefix


def _read_levels(bits: BitReader, size: int) -> Integers:
    num_levels = bits.elias_delta()
    if num_levels > min(MAX_LEVELS, size):
        expected = f"at most {MAX_LEVELS} levels, and no more than entries"
        raise DecodeError(expected, str(num_levels), "ask for the file again")
    level = bits.signed()
    levels = [level]
    for _ in range(num_levels - 1):
        level += bits.elias_delta()
        levels.append(level)
    if max(abs(levels[0]), abs(levels[-1])) > MAX_MAGNITUDE:
        raise DecodeError(f"levels of at most {MAX_MAGNITUDE}", "a larger one", "ask for the file again")
    return np.array(levels, dtype=np.int64)


def _questions(num_levels: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """For each depth of the tree from the top: the bit asked for, and at which nodes it is not certain to be 0."""
    num_digits = max(1, num_levels - 1).bit_length() if num_levels > 1 else 0
    for level in range(num_digits):
        depth = num_digits - 1 - level
        upper_half = (2 * np.arange(1 << level, dtype=np.int64) + 1) << depth
        yield depth, upper_half < num_levels
