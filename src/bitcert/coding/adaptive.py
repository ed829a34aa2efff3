"""Adaptive code of small structured data: flags, integers, decimal numbers and bytes, each under a named context.

A flag under a context that has seen ``n0`` zeros and ``n1`` ones is one with probability
``(2 n1 + 1) / (2 n0 + 2 n1 + 2)`` (Krichevsky & Trofimov 1981), updated after every flag. An integer ``v >= 0`` is the
adaptive Elias gamma code of ``v + 1``: its number of binary digits in unary, then the digits after the first, most
significant first; the digits of numbers up to four digits are adaptive flags too, those of longer ones are raw. So
whatever repeats becomes cheap, without any table.

One function describes a structure for both directions: it hands each value to a :class:`Coder` and goes on with what
comes back. A :class:`Writer` returns the value given, a :class:`Reader` ignores it and returns the value read. What is
read is therefore what was written, and each section ends with the canonical bits of :mod:`bitcert.coding.arithmetic`:
no code word is a prefix of another. Meant for thousands of symbols, not for tensors.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from decimal import Decimal
from itertools import accumulate

import numpy as np

from bitcert.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from bitcert.coding.bitstream import MAX_INTEGER_DIGITS, BitReader, Bits
from bitcert.errors import DecodeError

_ADAPTIVE_DIGITS = 4


class Coder(ABC):
    """Codes values one after another; the contexts of both directions see the same values."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, list[int]] = {}
        self._last: dict[Hashable, object] = {}

    @abstractmethod
    def _code(self, value: bool, probability: float) -> bool:
        """One flag of known probability."""

    def flag(self, context: Hashable, value: bool = False, first: tuple[int, int] = (1, 1)) -> bool:
        """A flag, adaptive within its context, whose counts of no and yes begin with ``first`` and grow by 2."""
        counts = self._seen.setdefault(context, list(first))
        coded = self._code(bool(value), counts[1] / sum(counts))
        counts[coded] += 2
        return coded

    def integer(self, context: Hashable, value: int = 0) -> int:
        """A non-negative integer below ``2^61``."""
        number = value + 1
        digits = 1
        while self.flag((context, "digits", digits), number.bit_length() > digits):
            digits += 1
            if digits >= MAX_INTEGER_DIGITS:
                raise DecodeError("an integer of at most 61 binary digits", "a longer one", "ask for the file again")
        coded = 1
        for place in range(digits - 2, -1, -1):
            bit = bool(number >> place & 1)
            adaptive = digits <= _ADAPTIVE_DIGITS
            coded = 2 * coded + (self.flag((context, digits, coded), bit) if adaptive else self._code(bit, 0.5))
        return coded - 1

    def signed(self, context: Hashable, value: int = 0) -> int:
        """An integer of either sign: the rank in ``0, 1, -1, 2, -2, ...``."""
        rank = self.integer(context, 2 * value - 1 if value > 0 else -2 * value)
        return (rank + 1) // 2 if rank % 2 else -(rank // 2)

    def same(self, context: Hashable, value: object) -> tuple[bool, object]:
        """Whether the value is the last one noted under this context, and that one; see :meth:`note`."""
        last = self._last.get(context)
        if last is None:
            return False, None
        return self.flag((context, "same"), value == last), last

    def note(self, context: Hashable, value: object) -> None:
        """Remember a value for :meth:`same`."""
        self._last[context] = value

    def symbol(self, context: Hashable, size: int, value: int = 0) -> int:
        """One of ``size`` numbers from 0: its binary digits, each under those before it."""
        width, coded = max(0, (size - 1).bit_length()), 1
        for place in range(width - 1, -1, -1):
            coded = 2 * coded + self.flag((context, coded), bool(value >> place & 1))
        return coded - (1 << width)

    def choice(self, weights: Sequence[int], value: int = 0) -> int:
        """One of ``len(weights)`` numbers from 0, whose chances are as the weights; what has weight 0 is never coded.

        By halves, each with a quotient of two whole numbers: the length is ``log2(sum / weight)`` bits, wherever in the
        list the value stands.
        """
        return self.sums(list(accumulate(weights, initial=0)), value)

    def uniform(self, size: int, value: int = 0) -> int:
        """One of ``size`` numbers from 0, all of the same chance: ``log2(size)`` bits."""
        return self.sums(range(size + 1), value)

    def sums(self, sums: Sequence[int], value: int = 0) -> int:
        """:meth:`choice`, given the sums of the weights before each number and of all."""
        low, high = 0, len(sums) - 1
        while high - low > 1:
            middle = (low + high) // 2
            upper, total = sums[high] - sums[middle], sums[high] - sums[low]
            second = upper == total if upper in (0, total) else self._code(value >= middle, upper / total)
            low, high = (middle, high) if second else (low, middle)
        return low

    def number(self, context: Hashable, value: float = 0.0) -> float:
        """A finite float as its shortest decimal, ``(-1)^s n 10^e`` with an integer ``n`` that ten does not divide."""
        same, last = self.same(context, (value, math.copysign(1.0, value)))
        if same:
            assert isinstance(last, tuple)
            return float(last[0])
        sign, digits, exponent = Decimal(repr(float(value))).normalize().as_tuple()
        assert isinstance(exponent, int)
        negative = self.flag((context, "sign"), bool(sign))
        whole = self.integer((context, "n"), int("".join(map(str, digits))))
        power = self.signed((context, "e"), exponent)
        coded = float(f"{'-' if negative else ''}{whole}e{power}")
        self.note(context, (coded, math.copysign(1.0, coded)))
        return coded

    def octets(self, context: Hashable, value: bytes = b"") -> bytes:
        """Bytes, each under the one before it."""
        size = self.integer((context, "length"), len(value))
        coded = bytearray()
        for place in range(size):
            before = coded[-1] if coded else 0
            coded.append(self.symbol((context, before), 256, value[place] if place < len(value) else 0))
        return bytes(coded)


class Writer(Coder):
    """Writes one section.

    >>> writer = Writer()
    >>> writer.integer("width", 16), writer.number("slope", 0.1)
    (16, 0.1)
    >>> reader = Reader(BitReader(np.packbits(writer.bits()).tobytes()))
    >>> reader.integer("width"), reader.number("slope")
    (16, 0.1)
    """

    def __init__(self) -> None:
        super().__init__()
        self._encoder = ArithmeticEncoder()

    def _code(self, value: bool, probability: float) -> bool:
        self._encoder.known(np.array([value]), np.array([probability]))
        return value

    def bits(self) -> Bits:
        """The section."""
        return self._encoder.bits()


class Reader(Coder):
    """Reads a section that a :class:`Writer` wrote; every method ignores the value it is given."""

    def __init__(self, bits: BitReader) -> None:
        super().__init__()
        self._decoder = ArithmeticDecoder(bits)

    def _code(self, value: bool, probability: float) -> bool:
        del value
        return bool(self._decoder.known(np.zeros(1, dtype=bool), np.array([probability]))[0])

    def finish(self) -> None:
        """End the section.

        Raises:
            DecodeError: its bits are not the canonical ones.
        """
        self._decoder.finish()


class Meter(Coder):
    """Measures what a :class:`Writer` would write, in bits; for choosing between structures.

    >>> meter = Meter()
    >>> meter.choice((1, 3), 1), round(meter.length, 3)
    (1, 0.415)
    """

    def __init__(self) -> None:
        super().__init__()
        self.length = 0.0

    def _code(self, value: bool, probability: float) -> bool:
        self.length -= math.log2(probability if value else 1 - probability)
        return value
