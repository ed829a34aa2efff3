"""Entropy coders of integer arrays, one number each: any of them goes with any transform and any quantiser.

A coder writes an integer array whose shape the decoder knows, self-delimiting. The writer of a message tries all of
them and keeps the shortest, whose number costs :data:`CODER_BITS` bits. numpy only; decoding is bit-exact.

| number | coder | good for |
| --- | --- | --- |
| 0 | adaptive flags (:mod:`bitcert.coding.tensors`) | anything |
| 1 | layouts (:mod:`bitcert.coding.layouts`) | whole rows, columns or filters of zeros |
| 2 | enumeration per row (:mod:`bitcert.coding.enumerative`) | sparse supports whose density differs between rows |
| 3 | codebook (:mod:`bitcert.coding.codebook`) | few distinct values |
"""

from __future__ import annotations

import math
from typing import Protocol

from bitcert.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder
from bitcert.coding.bitstream import BitReader, BitWriter
from bitcert.coding.codebook import Codebook
from bitcert.coding.enumerative import Enumerative
from bitcert.coding.layouts import UnitsInUse, code_layout, has_layout, tensor_code_bits
from bitcert.coding.tensors import Integers, blank, code_integers, max_flags
from bitcert.errors import DecodeError

CODER_BITS = 2
Shape = tuple[int, ...]


class Coder(Protocol):
    """Writes and reads one integer array."""

    def fits(self, integers: Integers) -> bool:
        """Whether this coder can write the array (and is worth trying)."""
        ...

    def write(self, bits: BitWriter, integers: Integers) -> None:
        """Append the array."""
        ...

    def read(self, bits: BitReader, shape: Shape) -> Integers:
        """The inverse of :meth:`write`.

        Raises:
            DecodeError: these bits are no array of this shape.
        """
        ...


class Adaptive:
    """Flags under adaptive counts, entry by entry."""

    def fits(self, integers: Integers) -> bool:
        """Always."""
        return True

    def write(self, bits: BitWriter, integers: Integers) -> None:
        """Append the array."""
        encoder = ArithmeticEncoder()
        code_integers(encoder, integers)
        bits.extend(encoder.bits())

    def read(self, bits: BitReader, shape: Shape) -> Integers:
        """The inverse of :meth:`write`."""
        decoder = ArithmeticDecoder(bits, max_flags(math.prod(shape)))
        integers = code_integers(decoder, blank(*shape))
        decoder.finish()
        return integers


class Layouts:
    """Masks of rows, columns and filters in use, then what is inside."""

    def fits(self, integers: Integers) -> bool:
        """Only arrays of two or more axes have rows and columns, and only zeros make masks worth their bits."""
        return has_layout(integers.shape) and not bool((integers != 0).all())

    def write(self, bits: BitWriter, integers: Integers) -> None:
        """Append the number of the layout and the array."""
        units = UnitsInUse()
        _, layout = tensor_code_bits(integers, units)
        bits.binary(layout, 2)
        encoder = ArithmeticEncoder()
        code_layout(encoder, integers, layout, units)
        bits.extend(encoder.bits())

    def read(self, bits: BitReader, shape: Shape) -> Integers:
        """The inverse of :meth:`write`."""
        if not has_layout(shape):
            raise DecodeError("an array of rows and columns", f"shape {list(shape)}", "ask for the file again")
        layout, size = bits.binary(2), math.prod(shape)
        decoder = ArithmeticDecoder(bits, max_flags(size) + 3 * size)
        integers = code_layout(decoder, blank(*shape), layout, UnitsInUse())
        decoder.finish()
        return integers


CODERS: dict[int, Coder] = {0: Adaptive(), 1: Layouts(), 2: Enumerative(), 3: Codebook()}


def write_array(bits: BitWriter, integers: Integers) -> None:
    """Append an array with the shortest coder, whose number comes first."""
    best: BitWriter | None = None
    for number, coder in CODERS.items():
        if coder.fits(integers):
            trial = BitWriter()
            trial.binary(number, CODER_BITS)
            coder.write(trial, integers)
            if best is None or len(trial) < len(best):
                best = trial
    assert best is not None
    bits.extend(best.bits())


def read_array(bits: BitReader, shape: Shape) -> Integers:
    """The inverse of :func:`write_array`.

    Raises:
        DecodeError: an unknown coder, or bits that are no array of this shape.
    """
    number = bits.binary(CODER_BITS)
    if number not in CODERS:
        raise DecodeError("a coder that this version knows", f"number {number}", "use the version that wrote it")
    return CODERS[number].read(bits, shape)
