"""An integer tensor as flags: is it zero, its sign, and is the magnitude larger than 1, 2, 3, ...

Trained and quantised weights are mostly zero and fall off fast, so each question has a skewed answer whose frequency
the adaptive code of :mod:`bitcert.coding.arithmetic` learns on its way: no table of frequencies is sent. Magnitudes
above ``UNARY_MAGNITUDES`` continue in an Elias-gamma pattern (adaptive number of digits, plain digits).

For ``n`` integers of which ``s`` are non-zero the first question costs about
``log2 C(n, s) + log2(s (n - s))/2 + log2 pi`` bits: the enumerative limit of the support, plus half a logarithm of
``n`` when few are non-zero and a whole one when about half are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcert.coding.arithmetic import Contexts, FlagCoder, adaptive_code_bits
from bitcert.errors import DecodeError

Integers = NDArray[np.int64]
Given = NDArray[np.signedinteger[Any]]
"""The integers that a writer codes; for a reader :func:`blank`, of which only the shape counts."""

Tail = Callable[[FlagCoder, Given], Integers]

UNARY_MAGNITUDES = 15
MAX_MAGNITUDE = (1 << 24) - 1
"""Float32 holds every integer up to here exactly."""

_MAX_DIGITS = MAX_MAGNITUDE.bit_length()
_PART = 1 << 16


def max_flags(num_values: int) -> int:
    """At most this many flags code ``num_values`` integers: support, sign, magnitude, digits."""
    return (2 + UNARY_MAGNITUDES + 2 * _MAX_DIGITS) * num_values


def blank(*shape: int) -> Given:
    """What a reader is given in the place of integers."""
    return np.zeros(shape, dtype=np.int8)


def code_integers(coder: FlagCoder, given: Given, contexts: Contexts | None = None) -> Integers:
    """Code an array of any integers up to :data:`MAX_MAGNITUDE` in size, in the order of its rows, and return it.

    Args:
        coder: a writer, or a reader, which uses the shape of ``given`` only.
        given: the array.
        contexts: ``[n]`` small integers the decoder knows; zeros are counted apart in each.

    Raises:
        ValueError: a writer is given a larger magnitude.
        DecodeError: a larger magnitude is read.
    """
    flat = given.ravel()
    support = coder.flags(flat != 0, contexts)
    alive = code_nonzero(coder, flat[support])
    values = np.zeros(len(flat), dtype=np.int64)
    values[support] = alive
    return values.reshape(given.shape)


def code_nonzero(coder: FlagCoder, given: Given, tail: Tail | None = None) -> Integers:
    """Code ``given [n]``, integers that are known not to be zero, and return them: signs, then magnitudes.

    Args:
        coder: a writer, or a reader, which uses the number of the integers only.
        given: the integers.
        tail: how magnitudes above :data:`UNARY_MAGNITUDES` go on, as integers from 1; by default as Elias-gamma does.

    Raises:
        ValueError, DecodeError: as :func:`code_integers`.
    """
    left: Given = np.abs(given)
    if left.max(initial=0) > MAX_MAGNITUDE:
        raise ValueError(f"magnitudes above {MAX_MAGNITUDE} are not coded")
    positive = coder.flags(given > 0)
    magnitudes = np.ones(len(left), dtype=np.int64)
    going = np.arange(len(left))
    for level in range(1, UNARY_MAGNITUDES + 1):
        going = going[coder.flags(left[going] > level)]
        magnitudes[going] += 1
    magnitudes[going] = UNARY_MAGNITUDES + (tail or _code_excess)(coder, left[going] - UNARY_MAGNITUDES)
    if magnitudes.max(initial=0) > MAX_MAGNITUDE:
        raise DecodeError(f"weights of at most {MAX_MAGNITUDE} steps", "a larger one", "ask for the file again")
    return np.where(positive, magnitudes, -magnitudes)


def _code_excess(coder: FlagCoder, given: Given) -> Integers:
    digits = np.ones(len(given), dtype=np.int64)
    going, num_raw = np.arange(len(given)), 0
    for level in range(1, _MAX_DIGITS + 1):
        going = going[coder.flags(given[going] >= 1 << level)]
        digits[going] += 1
        num_raw += len(going)
        coder.require_raw(num_raw)
    excess = np.left_shift(1, digits - 1)
    for part in _parts(len(given)):
        owner, shift = _tail_places(digits[part])
        tails = coder.raw((given[part][owner] >> shift) & 1 == 1)
        np.add.at(excess[part], owner, tails.astype(np.int64) << shift)
    return excess


def _parts(num_values: int) -> Iterator[slice]:
    """Slices that bound the memory of what is one flag a bit."""
    return (slice(start, start + _PART) for start in range(0, num_values, _PART))


def _tail_places(digits: Integers) -> tuple[Integers, Integers]:
    """Owner and shift of each binary digit after the first of numbers of ``digits [n]`` digits, in coding order."""
    tails = digits - 1
    owner = np.repeat(np.arange(len(digits)), tails)
    first = np.repeat(np.cumsum(tails) - tails, tails)
    return owner, tails[owner] - 1 - (np.arange(len(owner)) - first)


def _level_counts(values: Given) -> tuple[NDArray[np.int64], int, int]:
    """``reached[t]`` = how many magnitudes are at least ``t``, number of positives, number of values."""
    magnitudes = np.minimum(np.abs(values.ravel()), UNARY_MAGNITUDES + 1)
    histogram = np.bincount(magnitudes, minlength=UNARY_MAGNITUDES + 2)
    return np.cumsum(histogram[::-1])[::-1], int((values > 0).sum()), values.size


def integer_code_bits(values: Given) -> float:
    """Ideal length in bits of one tensor without contexts (magnitudes at most ``UNARY_MAGNITUDES``)."""
    reached, num_positive, _ = _level_counts(values)
    levels = adaptive_code_bits(reached[:-1] - reached[1:], reached[1:])
    return levels + adaptive_code_bits(int(reached[1]) - num_positive, num_positive)


def nonzero_code_bits(alive: Integers) -> float:
    """Ideal length in bits of :func:`code_nonzero` (magnitudes at most ``UNARY_MAGNITUDES``)."""
    return integer_code_bits(alive) - adaptive_code_bits(0, alive.size)


def marginal_nonzero_bits(alive: Integers) -> NDArray[np.float64]:
    """What one more entry of each size would cost after ``alive``, as :func:`marginal_bits`; 0 for zero."""
    bits = marginal_bits(alive)
    bits += np.log2((alive.size + 0.5) / (alive.size + 1.0))
    bits[UNARY_MAGNITUDES] = 0.0
    return bits


def marginal_bits(values: Integers) -> NDArray[np.float64]:
    """What one more entry of each size would cost now, ``[2 * UNARY_MAGNITUDES + 1]`` bits for ``-15 .. 15``.

    The adaptive code's own probabilities at the final counts; differences of it rank changes of a tensor.
    """
    reached, num_positive, _ = _level_counts(values)
    total, above = reached[:-1].astype(np.float64), reached[1:].astype(np.float64)
    going = -np.log2((above + 0.5) / (total + 1.0))
    stopping = -np.log2((total - above + 0.5) / (total + 1.0))
    magnitude = np.cumsum(np.concatenate([[0.0], going[:-1]])) + stopping
    num_alive = float(reached[1])
    sign = -np.log2((np.array([num_alive - num_positive, num_positive]) + 0.5) / (num_alive + 1.0))
    return np.concatenate([magnitude[:0:-1] + sign[0], magnitude[:1], magnitude[1:] + sign[1]])
