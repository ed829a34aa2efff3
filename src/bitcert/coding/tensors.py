"""An integer tensor as flags: is it zero, its sign, and is the magnitude larger than 1, 2, 3, ...

Trained and quantised weights are mostly zero and fall off fast, so each question has a skewed answer whose frequency
the adaptive code of :mod:`bitcert.coding.arithmetic` learns on its way: no table of frequencies is sent. Magnitudes
above ``UNARY_MAGNITUDES`` continue in an Elias-gamma pattern (adaptive number of digits, plain digits).

For ``n`` integers of which ``s`` are non-zero the first question costs about
``log2 C(n, s) + log2(s (n - s))/2 + log2 pi`` bits: the enumerative limit of the support, plus half a logarithm of
``n`` when few are non-zero and a whole one when about half are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bitcert.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, Contexts, adaptive_code_bits
from bitcert.errors import DecodeError

Integers = NDArray[np.int64]

UNARY_MAGNITUDES = 15
MAX_MAGNITUDE = (1 << 24) - 1
"""Float32 holds every integer up to here exactly."""

_MAX_DIGITS = MAX_MAGNITUDE.bit_length()
_PART = 1 << 16


def max_flags(num_values: int) -> int:
    """At most this many flags code ``num_values`` integers: support, sign, magnitude, digits."""
    return (2 + UNARY_MAGNITUDES + 2 * _MAX_DIGITS) * num_values


def encode_integers(encoder: ArithmeticEncoder, values: Integers, contexts: Contexts | None = None) -> None:
    """Append ``values [n]`` (flattened, any integers up to :data:`MAX_MAGNITUDE` in size).

    Args:
        contexts: ``[n]`` small integers the decoder knows; zeros are counted apart in each.
    """
    values = values.ravel()
    encoder.flags(values != 0, contexts)
    encode_nonzero(encoder, values[values != 0])


def encode_nonzero(encoder: ArithmeticEncoder, alive: Integers) -> None:
    """Append ``alive [n]``, integers that are known not to be zero: signs, then magnitudes."""
    left = np.abs(alive)
    if left.max(initial=0) > MAX_MAGNITUDE:
        raise ValueError(f"magnitudes above {MAX_MAGNITUDE} are not coded")
    encoder.flags(alive > 0)
    for level in range(1, UNARY_MAGNITUDES + 1):
        encoder.flags(left > level)
        left = left[left > level]
    excess = left - UNARY_MAGNITUDES
    digits = np.frexp(excess.astype(np.float64))[1].astype(np.int64)
    going = digits
    for level in range(1, _MAX_DIGITS + 1):
        encoder.flags(going > level)
        going = going[going > level]
    for part in _parts(len(excess)):
        owner, shift = _tail_places(digits[part])
        encoder.raw((excess[part][owner] >> shift) & 1 == 1)


def _parts(num_values: int) -> Iterator[slice]:
    """Slices that bound the memory of what is one flag a bit."""
    return (slice(start, start + _PART) for start in range(0, num_values, _PART))


def _tail_places(digits: Integers) -> tuple[Integers, Integers]:
    """Owner and shift of each binary digit after the first of numbers of ``digits [n]`` digits, in coding order."""
    tails = digits - 1
    owner = np.repeat(np.arange(len(digits)), tails)
    first = np.repeat(np.cumsum(tails) - tails, tails)
    return owner, tails[owner] - 1 - (np.arange(len(owner)) - first)


def decode_integers(decoder: ArithmeticDecoder, num_values: int, contexts: Contexts | None = None) -> Integers:
    """The inverse of :func:`encode_integers`, ``[num_values]`` int64.

    Raises:
        DecodeError: when a magnitude exceeds :data:`MAX_MAGNITUDE`.
    """
    support = decoder.flags(num_values, contexts)
    values = np.zeros(num_values, dtype=np.int64)
    values[support] = decode_nonzero(decoder, int(support.sum()))
    return values


def decode_nonzero(decoder: ArithmeticDecoder, num_alive: int) -> Integers:
    """The inverse of :func:`encode_nonzero`, ``[num_alive]`` int64.

    Raises:
        DecodeError: when a magnitude exceeds :data:`MAX_MAGNITUDE`.
    """
    positive = decoder.flags(num_alive)
    magnitudes = np.ones(num_alive, dtype=np.int64)
    alive = np.arange(num_alive)
    for _ in range(UNARY_MAGNITUDES):
        alive = alive[decoder.flags(len(alive))]
        magnitudes[alive] += 1
    magnitudes[alive] = UNARY_MAGNITUDES + _decode_excess(decoder, len(alive))
    if magnitudes.max(initial=0) > MAX_MAGNITUDE:
        raise DecodeError(f"weights of at most {MAX_MAGNITUDE} steps", "a larger one", "ask for the file again")
    return np.where(positive, magnitudes, -magnitudes)


def _decode_excess(decoder: ArithmeticDecoder, num_values: int) -> Integers:
    digits = np.ones(num_values, dtype=np.int64)
    going, num_raw = np.arange(num_values), 0
    for _ in range(_MAX_DIGITS):
        going = going[decoder.flags(len(going))]
        digits[going] += 1
        num_raw += len(going)
        decoder.require_raw(num_raw)
    excess = np.left_shift(1, digits - 1)
    for part in _parts(num_values):
        owner, shift = _tail_places(digits[part])
        tails = decoder.raw(len(owner)).astype(np.int64)
        np.add.at(excess[part], owner, tails << shift)
    return excess


def _level_counts(values: Integers) -> tuple[NDArray[np.int64], int, int]:
    """``reached[t]`` = how many magnitudes are at least ``t``, number of positives, number of values."""
    magnitudes = np.minimum(np.abs(values.ravel()), UNARY_MAGNITUDES + 1)
    histogram = np.bincount(magnitudes, minlength=UNARY_MAGNITUDES + 2)
    return np.cumsum(histogram[::-1])[::-1], int((values > 0).sum()), values.size


def integer_code_bits(values: Integers) -> float:
    """Ideal length in bits of one tensor without contexts (magnitudes at most ``UNARY_MAGNITUDES``)."""
    reached, num_positive, _ = _level_counts(values)
    levels = adaptive_code_bits(reached[:-1] - reached[1:], reached[1:])
    return levels + adaptive_code_bits(int(reached[1]) - num_positive, num_positive)


def nonzero_code_bits(alive: Integers) -> float:
    """Ideal length in bits of :func:`encode_nonzero` (magnitudes at most ``UNARY_MAGNITUDES``)."""
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
