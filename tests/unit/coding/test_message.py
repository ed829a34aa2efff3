"""Whole files: round trip with sections in a row, ledgers that sum to the file, refusals."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.coding import (
    MAX_MESSAGE_BYTES,
    ArithmeticDecoder,
    Ledger,
    MessageReader,
    MessageWriter,
    RowModel,
    max_flags,
    message,
)
from bitcert.coding.message import FORMAT_VERSION
from bitcert.errors import DecodeError

TENSORS = st.lists(st.lists(st.integers(-40, 40), max_size=30), max_size=5)


def write(family: int, choice: int, tensors: list[list[int]]) -> tuple[bytes, Ledger]:
    writer = MessageWriter(family)
    with writer.section("choice") as bits:
        bits.signed(choice)
    for index, values in enumerate(tensors):
        writer.integers(f"tensor {index}", np.array(values, dtype=np.int64), _contexts(len(values), index))
    return writer.finish()


def _contexts(num_values: int, index: int) -> np.ndarray | None:
    return np.arange(num_values, dtype=np.intp) % index if index else None


@settings(max_examples=25, deadline=None)
@given(family=st.integers(1, 3000), choice=st.integers(-(10**6), 10**6), tensors=TENSORS)
def test_round_trip_and_ledger(family: int, choice: int, tensors: list[list[int]]) -> None:
    data, ledger = write(family, choice, tensors)
    reader = MessageReader(data)
    assert reader.family == family
    with reader.section("choice") as bits:
        assert bits.signed() == choice
    for index, values in enumerate(tensors):
        decoded = reader.integers(f"tensor {index}", len(values), _contexts(len(values), index))
        assert decoded.tolist() == values
    assert reader.finish() == ledger
    assert ledger.total_bits == 8 * len(data)
    sections = dict(ledger.sections)
    assert list(sections) == ["header", "choice", *(f"tensor {i}" for i in range(len(tensors))), "padding"]
    assert min(sections.values()) >= 0
    assert sections["padding"] < 8


def test_sections_of_one_name_are_booked_together() -> None:
    writer = MessageWriter(1)
    for value in (1, 5):
        with writer.section("twice") as bits:
            bits.elias_gamma(value)
    data, ledger = writer.finish()
    assert ledger.sections == (("header", 2), ("twice", 6), ("padding", 0))
    assert len(data) == 1


def test_another_format_version_is_refused() -> None:
    with pytest.raises(DecodeError, match=f"format {FORMAT_VERSION}"):
        MessageReader(b"\x50")


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x80", bytes(100)])
def test_no_header(data: bytes) -> None:
    with pytest.raises(DecodeError):
        MessageReader(data)


def test_the_longest_file() -> None:
    assert MAX_MESSAGE_BYTES == 32 * 1024 * 1024
    assert MessageReader(b"\xff" + bytes(MAX_MESSAGE_BYTES - 1)).family == 1
    with pytest.raises(DecodeError, match="bytes"):
        MessageReader(b"\xff" + bytes(MAX_MESSAGE_BYTES))


def test_no_more_of_a_message_is_looked_at_than_a_tensor_can_take(monkeypatch) -> None:
    asked = []

    class Watched(ArithmeticDecoder):
        def __init__(self, reader, most):
            asked.append(most)
            super().__init__(reader, most)

    model = RowModel(np.array([0, 0, 1, -1]), 3)
    writer = MessageWriter(1)
    writer.integers("tensor", np.arange(5))
    writer.rows("rows", np.eye(4, 3, dtype=np.int64), model)
    monkeypatch.setattr(message, "ArithmeticDecoder", Watched)
    reader = MessageReader(writer.finish()[0])
    reader.integers("tensor", 5)
    reader.rows("rows", model)
    assert asked == [max_flags(5), 4 + max_flags(12)]


def test_no_longer_file_is_written(monkeypatch) -> None:
    monkeypatch.setattr(message, "MAX_MESSAGE_BYTES", 3)
    for width in (22, 23):
        writer = MessageWriter(1)
        with writer.section("long") as bits:
            bits.binary(0, width)
        if width == 22:
            assert len(writer.finish()[0]) == 3
        else:
            with pytest.raises(ValueError, match="4 bytes exceeds the limit of 3"):
                writer.finish()


def test_anything_after_the_message_is_refused() -> None:
    data, _ = write(1, 0, [[1, 2, 3]])
    for longer in (data + b"\x00", data + b"\x01", data + data):
        reader = MessageReader(longer)
        with reader.section("choice") as bits:
            bits.signed()
        reader.integers("tensor 0", 3)
        with pytest.raises(DecodeError):
            reader.finish()


def test_longer_tensors_of_one_kind_take_longer_messages() -> None:
    lengths = [len(write(1, 0, [[(i * 7919) % 5 - 2 for i in range(n)]])[0]) for n in (10, 100, 1000, 4000)]
    assert all(shorter < longer for shorter, longer in pairwise(lengths))


def test_the_longest_message_is_a_part_of_the_format() -> None:
    assert MAX_MESSAGE_BYTES == 33_554_432


WITHOUT_TORCH = """
import importlib.util, sys, types
package = types.ModuleType("bitcert")  # the package's own front page imports every verb
package.__path__ = list(importlib.util.find_spec("bitcert").submodule_search_locations)
sys.modules.update(bitcert=package, torch=None)
import numpy as np
from bitcert.coding import MessageReader, MessageWriter, integer_code_bits
writer = MessageWriter(1)
writer.integers("weights", np.array([0, 3, -1]))
reader = MessageReader(writer.finish()[0])
assert reader.integers("weights", 3).tolist() == [0, 3, -1]
assert reader.finish().total_bits > integer_code_bits(np.array([0, 3, -1]))
assert sys.modules["torch"] is None
"""


def test_a_message_is_written_and_read_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
