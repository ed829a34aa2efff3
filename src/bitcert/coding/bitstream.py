"""Bits in, bits out: a growing bit string and a bounded reader, with the Elias codes.

Elias (1975) gamma and delta codes are prefix-free codes of the positive integers: gamma writes ``n`` as
``floor(log2 n)`` zeros and then the binary digits of ``n`` (``2 floor(log2 n) + 1`` bits); delta writes the number of
digits with gamma and then the digits without the leading one. Signed integers are mapped to 1, 2, 3, ... by
``0, 1, -1, 2, -2, ...`` first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitcert.errors import DecodeError

Bits = NDArray[np.uint8]

MAX_INTEGER_DIGITS = 62
"""No integer written with an Elias code has more binary digits, so a hostile run of zeros ends early."""


def _num_digits(value: int) -> int:
    """Binary digits of an integer the Elias codes can write and read back."""
    if not 1 <= value < 1 << MAX_INTEGER_DIGITS:
        raise ValueError(f"the Elias codes write 1 .. 2^{MAX_INTEGER_DIGITS} - 1, got {value}")
    return value.bit_length()


def _malformed(got: str) -> DecodeError:
    return DecodeError("a message written by bitcert", got, "ask for the file again or make a new certificate")


class BitWriter:
    """A bit string that grows at its end.

    >>> writer = BitWriter()
    >>> writer.elias_gamma(5)
    >>> "".join(map(str, writer.bits()))
    '00101'
    """

    def __init__(self) -> None:
        self._bits = bytearray()

    def __len__(self) -> int:
        return len(self._bits)

    def bits(self) -> Bits:
        """All bits so far, ``[num_bits]`` of 0 and 1."""
        return np.frombuffer(bytes(self._bits), dtype=np.uint8)

    def extend(self, bits: Bits) -> None:
        """Append an array of 0 and 1."""
        self._bits += bits.astype(np.uint8).tobytes()

    def binary(self, value: int, width: int) -> None:
        """Append ``value`` as ``width`` binary digits, most significant first."""
        if not 0 <= value < 1 << width:
            raise ValueError(f"{value} does not fit in {width} bits")
        self._bits += bytes((value >> i) & 1 for i in range(width - 1, -1, -1))

    def elias_gamma(self, value: int) -> None:
        """Append ``value`` (1 or more, at most :data:`MAX_INTEGER_DIGITS` digits) in the Elias gamma code."""
        digits = _num_digits(value)
        self._bits += bytes(digits - 1)
        self.binary(value, digits)

    def elias_delta(self, value: int) -> None:
        """Append ``value`` (1 or more, at most :data:`MAX_INTEGER_DIGITS` digits) in the Elias delta code."""
        digits = _num_digits(value)
        self.elias_gamma(digits)
        self.binary(value - (1 << (digits - 1)), digits - 1)

    def signed(self, value: int) -> None:
        """Append an integer below ``2^61`` in size: Elias gamma of its rank in ``0, 1, -1, 2, -2, ...``."""
        self.elias_gamma(2 * value if value > 0 else 1 - 2 * value)

    def to_bytes(self) -> bytes:
        """The bits, padded with zeros to whole bytes."""
        return np.packbits(self.bits()).tobytes()


class BitReader:
    """Reads what :class:`BitWriter` wrote; running past the end raises :class:`DecodeError`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0
        """Index of the next bit."""

    @property
    def num_bits(self) -> int:
        """Length of the whole input in bits."""
        return 8 * len(self._data)

    def bit(self) -> int:
        """The next bit."""
        if self.position >= self.num_bits:
            raise _malformed("a message that ends too early")
        byte = self._data[self.position >> 3]
        value = (byte >> (7 - (self.position & 7))) & 1
        self.position += 1
        return value

    def binary(self, width: int) -> int:
        """The next ``width`` bits as a number, most significant first."""
        value = 0
        for _ in range(width):
            value = 2 * value + self.bit()
        return value

    def elias_gamma(self) -> int:
        """The next Elias gamma codeword."""
        zeros = 0
        while not self.bit():
            zeros += 1
            if zeros >= MAX_INTEGER_DIGITS:
                raise _malformed(f"an integer of more than {MAX_INTEGER_DIGITS} digits")
        return (1 << zeros) | self.binary(zeros)

    def elias_delta(self) -> int:
        """The next Elias delta codeword."""
        digits = self.elias_gamma()
        if digits > MAX_INTEGER_DIGITS:
            raise _malformed(f"an integer of {digits} digits")
        return (1 << (digits - 1)) | self.binary(digits - 1)

    def signed(self) -> int:
        """The next signed integer."""
        rank = self.elias_gamma()
        return rank // 2 if rank % 2 == 0 else -(rank // 2)

    def rest(self, max_bytes: int | None = None) -> bytes:
        """What follows the current position, realigned to whole bytes and padded with zeros.

        With ``max_bytes`` no more than one byte after these, which may be incomplete.
        """
        first = self.position >> 3
        last = len(self._data) if max_bytes is None else first + max_bytes + 1
        data = np.frombuffer(self._data[first:last], dtype=np.uint8)
        shift = self.position & 7
        if not shift or not data.size:
            return data.tobytes()
        shifted = (data << shift).astype(np.uint8)
        shifted[:-1] |= data[1:] >> (8 - shift)
        return shifted.tobytes()

    def octets(self, count: int) -> bytes:
        """The next ``8 * count`` bits as bytes.

        Raises:
            DecodeError: when there are not that many.
        """
        if self.position + 8 * count > self.num_bits:
            raise _malformed("a message that ends too early")
        content = self.rest(count)[:count]
        self.position += 8 * count
        return content

    def expect(self, bits: Bits) -> None:
        """Advance over exactly these bits; anything else is a malformed message."""
        end = self.position + len(bits)
        if end > self.num_bits:
            raise _malformed("a message that ends too early")
        first = self.position >> 3
        window = np.unpackbits(np.frombuffer(self._data[first : (end + 7) >> 3], dtype=np.uint8))
        offset = self.position & 7
        if not np.array_equal(window[offset : offset + len(bits)], bits):
            raise _malformed("a section that is not in canonical form")
        self.position = end

    def expect_end(self) -> None:
        """Check that only the zero padding of the last byte remains."""
        left = self.num_bits - self.position
        if left >= 8:
            raise _malformed(f"{left} bits after the end of the message")
        if self.binary(left):
            raise _malformed("non-zero padding")
