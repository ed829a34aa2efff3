"""The message: one self-delimiting file that is the hypothesis, and the ledger of its bits.

Grammar: format version and codec family (Elias gamma), then what the family declares, in order: choices as
prefix-free integers, tensors as arithmetic sections. The file ends with zeros up to a whole byte, which are counted.
No file is a prefix of another, so ``sum 2^-(8 * file length) <= 1`` over all files this program can write.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bitcert.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, Contexts
from bitcert.coding.bitstream import BitReader, BitWriter
from bitcert.coding.rows import RowModel, code_rows
from bitcert.coding.tensors import Integers, blank, code_integers, max_flags
from bitcert.errors import DecodeError

FORMAT_VERSION = 1
MAX_MESSAGE_BYTES = 1 << 25


@dataclass(frozen=True)
class Ledger:
    """Bits of the message by section, in the order of the file; they sum to the file's length."""

    sections: tuple[tuple[str, int], ...]

    @property
    def total_bits(self) -> int:
        """Length of the file in bits."""
        return sum(bits for _, bits in self.sections)


class _Sections:
    """Attributes the bits between two positions to named sections."""

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}

    def add(self, name: str, bits: int) -> None:
        self._bits[name] = self._bits.get(name, 0) + bits

    def ledger(self) -> Ledger:
        return Ledger(tuple(self._bits.items()))


class MessageWriter:
    """Writes a message section by section."""

    def __init__(self, family: int) -> None:
        self._writer = BitWriter()
        self._sections = _Sections()
        with self.section("header"):
            self._writer.elias_gamma(FORMAT_VERSION)
            self._writer.elias_gamma(family)

    @contextmanager
    def section(self, name: str) -> Iterator[BitWriter]:
        """Everything written inside is booked under ``name``."""
        start = len(self._writer)
        yield self._writer
        self._sections.add(name, len(self._writer) - start)

    def integers(self, name: str, values: Integers, contexts: Contexts | None = None) -> None:
        """Write an integer tensor as one arithmetic section."""
        with self.section(name) as writer:
            encoder = ArithmeticEncoder()
            code_integers(encoder, values, contexts)
            writer.extend(encoder.bits())

    def rows(self, name: str, matrix: Integers, model: RowModel) -> None:
        """Write an integer matrix of which few rows are used as one arithmetic section."""
        with self.section(name) as writer:
            encoder = ArithmeticEncoder()
            code_rows(encoder, matrix, model)
            writer.extend(encoder.bits())

    def finish(self) -> tuple[bytes, Ledger]:
        """The file and its ledger.

        Raises:
            ValueError: when the message exceeds :data:`MAX_MESSAGE_BYTES`.
        """
        data = self._writer.to_bytes()
        if len(data) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(data)} bytes exceeds the limit of {MAX_MESSAGE_BYTES}")
        self._sections.add("padding", 8 * len(data) - len(self._writer))
        return data, self._sections.ledger()


class MessageReader:
    """Reads a message in the same order; any deviation from the one canonical form raises :class:`DecodeError`."""

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_MESSAGE_BYTES:
            raise DecodeError(f"at most {MAX_MESSAGE_BYTES} bytes", f"{len(data)} bytes", "ask for the file again")
        self._reader = BitReader(data)
        self._sections = _Sections()
        with self.section("header"):
            version = self._reader.elias_gamma()
            if version != FORMAT_VERSION:
                raise DecodeError(
                    f"message format {FORMAT_VERSION}", f"format {version}", "use the version that wrote it"
                )
            self.family = self._reader.elias_gamma()

    @contextmanager
    def section(self, name: str) -> Iterator[BitReader]:
        """Everything read inside is booked under ``name``."""
        start = self._reader.position
        yield self._reader
        self._sections.add(name, self._reader.position - start)

    def integers(self, name: str, num_values: int, contexts: Contexts | None = None) -> Integers:
        """Read an integer tensor written by :meth:`MessageWriter.integers`."""
        with self.section(name) as reader:
            decoder = ArithmeticDecoder(reader, max_flags(num_values))
            values = code_integers(decoder, blank(num_values), contexts)
            decoder.finish()
        return values

    def rows(self, name: str, model: RowModel) -> Integers:
        """Read a matrix written by :meth:`MessageWriter.rows`."""
        with self.section(name) as reader:
            num_rows = len(model.groups)
            decoder = ArithmeticDecoder(reader, num_rows + max_flags(num_rows * model.columns))
            matrix = code_rows(decoder, blank(num_rows, model.columns), model)
            decoder.finish()
        return matrix

    def finish(self) -> Ledger:
        """Check that the message ends here and return the ledger."""
        left = self._reader.num_bits - self._reader.position
        self._reader.expect_end()
        self._sections.add("padding", left)
        return self._sections.ledger()
