"""Arithmetic coding of flags under adaptive counts, as a self-delimiting bit string.

A flag sequence is coded with the Krichevsky-Trofimov (1981) estimator: after ``n0`` zeros and ``n1`` ones in its
context the next flag is one with probability ``(2 n1 + 1) / (2 n0 + 2 n1 + 2)``. The probability of a block of flags is
fixed from the counts before the block; blocks grow with what has been seen (one sixteenth), so coding is vectorised
while the length of flags in no particular order stays within half a percent of the sequential code. Flags whose
frequency changes suddenly (all ones after all zeros) cost more than there: a block learns nothing from itself.

The probabilities are quotients of two integers, rounded once as IEEE 754 demands, and constriction turns them into
24-bit integers: no logarithm or exponential is evaluated, so every machine decodes the same flags.

A section ends with the shortest bit string whose every continuation stays in the final interval. The decoder codes
again what it has decoded and so knows where the section ends: no length field, at most two bits of overhead, and each
flag sequence has exactly one encoding. Not provided: any protection against a model that fits the data badly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import constriction
import numpy as np
from numpy.typing import NDArray

from bitcert.coding.bitstream import BitReader, Bits
from bitcert.errors import DecodeError

Flags = NDArray[np.bool_]
Contexts = NDArray[np.intp]

_BLOCK_FRACTION = 16
_WORD_BITS = 32
_STATE_BITS = 64
_MAX_FLAG_BYTES = 4
_BERNOULLI = constriction.stream.model.Bernoulli(perfect=False)


def blocks(num_flags: int) -> Iterator[slice]:
    """Slices of a list of flags within which probabilities stay as they were before."""
    start = 0
    while start < num_flags:
        stop = min(num_flags, start + max(1, start // _BLOCK_FRACTION))
        yield slice(start, stop)
        start = stop


class Counts:
    """Zeros and ones seen so far in each context."""

    def __init__(self, num_contexts: int) -> None:
        self.zeros = np.zeros(num_contexts, dtype=np.int64)
        self.ones = np.zeros(num_contexts, dtype=np.int64)

    def chances(self) -> NDArray[np.float64]:
        """Probability of a one in each context."""
        return np.asarray((2 * self.ones + 1) / (2 * (self.zeros + self.ones) + 2), dtype=np.float64)

    def update(self, flags: Flags, contexts: Contexts) -> None:
        """Count flags that have been coded."""
        np.add.at(self.ones, contexts[flags], 1)
        np.add.at(self.zeros, contexts[~flags], 1)


class FlagCoder(ABC):
    """One end of a section: a function that is given one describes both directions.

    Every method returns the flags: those it was given, or those it reads; a reader uses their number only.
    """

    @abstractmethod
    def known(self, flags: Flags, probabilities: NDArray[np.float64]) -> Flags:
        """Flags of which both sides know the probabilities of being one."""

    def flags(self, flags: Flags, contexts: Contexts | None = None) -> Flags:
        """``flags [n]``, adapting from scratch within each of the ``contexts [n]`` (small integers)."""
        contexts = np.zeros(len(flags), dtype=np.intp) if contexts is None else contexts
        return self.counted(flags, contexts, Counts(int(contexts.max(initial=0)) + 1))

    def counted(self, flags: Flags, contexts: Contexts, counts: Counts) -> Flags:
        """``flags [n]`` with the chances of ``counts``, block by block; the counts go on with what was coded."""
        coded = np.zeros(len(flags), dtype=bool)
        for block in blocks(len(flags)):
            coded[block] = self.known(flags[block], counts.chances()[contexts[block]])
            counts.update(coded[block], contexts[block])
        return coded

    def raw(self, flags: Flags) -> Flags:
        """Flags at one bit each."""
        return self.known(flags, np.full(len(flags), 0.5))

    def require_raw(self, num_flags: int) -> None:
        """Refuse early a section that promises more raw flags than a message has bits left; a writer never does."""
        del num_flags


class ArithmeticEncoder(FlagCoder):
    """Codes flags one after another; :meth:`bits` ends the section.

    >>> encoder = ArithmeticEncoder()
    >>> flags = encoder.flags(np.zeros(1000, dtype=bool))
    >>> len(encoder.bits())  # about log2(1000) / 2 + 1, instead of 1000
    6
    """

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()
        self._empty = True

    def known(self, flags: Flags, probabilities: NDArray[np.float64]) -> Flags:
        """Append flags whose probabilities of being one the decoder knows."""
        if len(flags):
            self._empty = False
            self._coder.encode(flags.astype(np.int32), _BERNOULLI, probabilities)
        return flags

    def bits(self) -> Bits:
        """The shortest bit string every continuation of which decodes to the flags so far."""
        if self._empty:
            return np.zeros(0, dtype=np.uint8)
        low, width, num_digits = self._interval()
        num_kept = max(0, num_digits - width.bit_length())
        while True:
            drop = num_digits - num_kept
            value = -(-low >> drop)
            if (value + 1) << drop <= low + width:
                break
            num_kept += 1
        digits = value.to_bytes((num_kept + 7) // 8, "big")
        return np.unpackbits(np.frombuffer(digits, dtype=np.uint8))[-num_kept:].copy()

    def _interval(self) -> tuple[int, int, int]:
        """The coder's interval ``[low, low + width)`` as integers of ``num_digits`` binary digits."""
        num_words, (lower, width) = self._coder.pos()
        sealed = self._coder.get_compressed().astype(">u4").tobytes()
        num_digits = _WORD_BITS * num_words + _STATE_BITS
        point = int.from_bytes(sealed, "big") << (num_digits - 8 * len(sealed))
        prefix, offset = point >> _STATE_BITS, point & ((1 << _STATE_BITS) - 1)
        # The coder keeps a carry pending; the sealed point tells whether it has happened.
        if not lower <= offset < lower + width:
            prefix -= 1
        return (prefix << _STATE_BITS) + lower, width, num_digits


class ArithmeticDecoder(FlagCoder):
    """Reads a section written by :class:`ArithmeticEncoder` from a :class:`BitReader`.

    Args:
        reader: stands at the section's first bit.
        max_flags: an upper limit on the flags of the section, if one is known; a flag takes at most 24 bits, so
            no more of a long message than that needs to be looked at.
    """

    def __init__(self, reader: BitReader, max_flags: int | None = None) -> None:
        self._reader = reader
        rest = reader.rest(None if max_flags is None else _MAX_FLAG_BYTES * max_flags + _STATE_BITS)
        padding = -len(rest) % 4 + 8
        words = np.frombuffer(rest + bytes(padding), dtype=">u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)
        self._again = ArithmeticEncoder()
        self._num_raw = 0

    def known(self, flags: Flags, probabilities: NDArray[np.float64]) -> Flags:
        """The next flags, given their number and their probabilities of being one."""
        if not len(probabilities):
            return np.zeros(0, dtype=bool)
        try:
            symbols = self._coder.decode(_BERNOULLI, probabilities)
        except Exception as error:  # constriction reports invalid data by several exception types
            raise DecodeError("an arithmetic code of bitcert", "invalid data", "ask for the file again") from error
        found: Flags = np.asarray(symbols, dtype=np.int32).astype(np.bool_)
        return self._again.known(found, probabilities)

    def raw(self, flags: Flags) -> Flags:
        """The next flags coded at one bit each."""
        self.require_raw(len(flags))
        self._num_raw += len(flags)
        return super().raw(flags)

    def require_raw(self, num_flags: int) -> None:
        """Refuse early a section that promises more raw flags than the message has bits left.

        A few bits of adaptive flags can announce millions of raw ones; each of those takes at least one bit.

        Raises:
            DecodeError: when the message is too short.
        """
        if self._num_raw + num_flags > self._reader.num_bits - self._reader.position:
            raise DecodeError("a message written by bitcert", "one that ends too early", "ask for the file again")

    def finish(self) -> None:
        """End the section: check that its bits are the canonical ones and move the reader behind them."""
        self._reader.expect(self._again.bits())


def adaptive_code_bits(num_zeros: NDArray[np.int64] | int, num_ones: NDArray[np.int64] | int) -> float:
    """Ideal length in bits of flags with these counts per context under the sequential estimator.

    ``-log2 Prod = log2 [ Gamma(n0 + n1 + 1) Gamma(1/2)^2 / (Gamma(n0 + 1/2) Gamma(n1 + 1/2)) ]``, summed over
    contexts. For choosing between messages; a certificate uses the length of the written file.

    >>> round(adaptive_code_bits(0, 1), 12)
    1.0
    """
    from scipy.special import gammaln

    zeros, ones = np.asarray(num_zeros, dtype=np.float64), np.asarray(num_ones, dtype=np.float64)
    nats = gammaln(zeros + ones + 1) + np.log(np.pi) - gammaln(zeros + 0.5) - gammaln(ones + 0.5)
    return float(np.sum(nats) / np.log(2))
