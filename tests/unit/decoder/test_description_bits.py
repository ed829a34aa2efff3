"""What the description of a helper charges to the bit, what its limits change, and that its sections can be read."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from torch import nn

from bitcert.coding import BitReader
from bitcert.coding.adaptive import Coder, Reader
from bitcert.data import Column, Schema, Table
from bitcert.decoder import Helper, HelperWeights, Preprocessing, description
from bitcert.decoder.description import (
    MAX_CODED_BYTES,
    MAX_CODED_TEXTS,
    SplitClaim,
    _code_problem,
    _code_split,
    _written,
    architecture_bits,
    code_preprocessing,
    code_schema,
    helper_ledger,
    read_architecture,
)
from bitcert.errors import DecodeError, InputError
from bitcert.network import Architecture, OpaqueModel
from bitcert.network.nodes import Node, ParameterSpec

CLAMP = Architecture((4,), 4, (Node("a", "clamp", ("input",), {"min": None, "max": 1.0}),), ())
SPECS = (ParameterSpec("w", (3, 4), "weight"),)


def opaque(**sources: bytes) -> OpaqueModel:
    return OpaqueModel(nn.Linear(4, 3), "m:make", SPECS, 3, (4,), sources=sources)


def reader_of(describe: Callable[[Coder], object]) -> Reader:
    return Reader(BitReader(np.packbits(_written(describe)).tobytes()))


def ideal_bits(values: Iterable[int]) -> float:
    """Of whole numbers under one context: the adaptive Elias gamma code of ``v + 1``, from its definition."""
    zeros, ones, total = Counter(), Counter(), 0.0
    for value in values:
        digits = bin(value + 1)[2:]
        flags = [(("more", k), k < len(digits)) for k in range(1, len(digits) + 1)]
        flags += [(digits[:k] if len(digits) < 5 else None, digits[k] == "1") for k in range(1, len(digits))]
        for context, flag in flags:
            if context is None:
                total += 1
                continue
            context = context if isinstance(context, tuple) else (len(digits), context)
            seen = ones if flag else zeros
            total -= math.log2((2 * seen[context] + 1) / (2 * zeros[context] + 2 * ones[context] + 2))
            seen[context] += 1
    return total


def is_section(bits: int, values: Iterable[int]) -> bool:
    """Whether a section of these whole numbers can have so many bits: to end it costs less than two."""
    return 0 <= bits - ideal_bits(values) < 2


def test_sections_have_these_names_and_no_other_is_charged():
    """A section is there when its part of the helper is: the names are read in certificates."""
    plain = Helper((4,), 4)
    assert [name for name, _ in helper_ledger(plain).sections] == ["problem", "preprocessing"]
    assert [name for name, _ in helper_ledger(plain, SplitClaim(0.5, 7)).sections] == [
        "problem",
        "preprocessing",
        "prior split",
    ]
    weights = HelperWeights.of(CLAMP, {})
    full = Helper((4,), 4, predictor=CLAMP, weights=weights, table=Table(Schema(label="y"), ("a", "y")))
    assert [name for name, _ in helper_ledger(full, SplitClaim(0.5, 7)).sections] == [
        "problem",
        "preprocessing",
        "architecture",
        "helper weights",
        "prior split",
        "schema",
    ]
    coded = helper_ledger(Helper((4,), 3, predictor=opaque(m=b"x")))
    assert [name for name, _ in coded.sections] == ["problem", "preprocessing", "code"]


def test_where_texts_are_no_longer_coded_is_frozen():
    """The bits that a certificate states depend on it."""
    assert MAX_CODED_BYTES == 65_536
    assert MAX_CODED_TEXTS == 4_096


def test_source_code_is_written_out_from_one_byte_beyond_the_limit(monkeypatch):
    """Names and contents count: six bytes ``m:make``, one ``m``, and the content."""
    monkeypatch.setattr(description, "MAX_CODED_BYTES", 6 + 1 + 8)
    coded, whole = (
        dict(helper_ledger(Helper((4,), 3, predictor=opaque(m=b"x" * size))).sections)["code"] for size in (8, 9)
    )
    assert coded == 97, "the eight equal letters cost less than eight bits each"
    assert whole == 5 + 8 * 16 + 17 + 2, "that it is written out, the lengths, a flag for the file, one for the end"
    assert is_section(17, [6, 1, 9])
    two = dict(helper_ledger(Helper((4,), 3, predictor=opaque(m=b"x" * 9, n=b""))).sections)["code"]
    assert two == 5 + 8 * 17 + 22 + 3
    assert is_section(22, [6, 1, 9, 1, 0])


def test_no_coded_description_of_source_code_begins_like_one_that_is_written_out():
    """17 ones open the latter: the coded length of a name of at least 2^17 - 1 bytes, which is never coded."""
    ones = np.ones(17, dtype=np.uint8)
    for size in (0, 1, MAX_CODED_BYTES):
        assert not np.array_equal(_written(lambda coder, size=size: coder.integer("length", size))[:17], ones)
    with pytest.raises(DecodeError):
        Reader(BitReader(b"\xff" * 8)).integer("length")
    assert Reader(BitReader(b"\xff\xff\x80" + bytes(8))).integer("length") >= 2**17 - 1


def test_texts_of_a_schema_are_written_out_from_one_byte_beyond_the_limit(monkeypatch):
    """``KS``, ``OH``, ``no`` and ``yyyyy`` are eleven bytes."""
    monkeypatch.setattr(description, "MAX_CODED_TEXTS", 11)
    columns, bare = (
        (Column("a", categories=("KS", "OH")), Column("b", use=False)),
        (Column("a"), Column("b", use=False)),
    )
    names = ("a", "b", "y")
    coded, whole = (
        dict(helper_ledger(Helper((2,), 2, table=Table(Schema(columns, "y", ("no", last)), names))).sections)["schema"]
        for last in ("y" * 5, "y" * 6)
    )
    assert coded == 1 + len(_written(lambda coder: code_schema(coder, names, Schema(columns, "y", ("no", "y" * 5)))))
    assert coded == 104
    rest = len(_written(lambda coder: code_schema(coder, names, Schema(bare, "y"))))
    assert rest == 18
    assert whole == 1 + rest + 8 + 12 + 8 * 12, "the numbers of texts, and their lengths"
    assert is_section(8, [2, 0, 2])
    assert is_section(12, [2, 2, 2, 6])


def test_the_problem_tells_which_kind_of_network_there_is():
    """After ``3`` classes (a flag, and five bits for them): none, an architecture, or code."""
    bits = [
        _written(lambda coder, p=p: _code_problem(coder, Helper((4,), 4, predictor=p))) for p in (None, CLAMP, opaque())
    ]
    assert [len(each) for each in bits] == [10, 10, 10]
    assert len({each.tobytes() for each in bits}) == 3


def test_the_fourth_input_and_those_after_it_share_their_contexts():
    """Of two nodes with six inputs: from the fourth on, where they come from is learnt in one place."""
    nodes = [Node("n0", "relu", ("input",)), Node("n1", "tanh", ("n0",))]
    nodes.append(Node("n2", "cat", ("n0", "n0", "input", "n1", "n1", "n1"), {"dim": 1}))
    nodes.append(Node("n3", "cat", ("n2", "n0", "n1", "input", "input", "n2"), {"dim": 1}))
    architecture = Architecture((4,), 64, tuple(nodes), ())
    bits = architecture_bits(architecture)
    assert (len(bits), hashlib.sha256(np.packbits(bits).tobytes()).hexdigest()[:12]) == (103, "ae348b18190c")
    assert read_architecture(np.packbits(bits).tobytes(), (4,)) == architecture


def test_preprocessing_and_a_split_come_back_from_their_bits():
    given = Preprocessing(255.0, (0.4914, -0.0, 0.4822), (0.247, 0.5, 0.5))
    reader = reader_of(lambda coder: code_preprocessing(coder, given))
    assert code_preprocessing(reader) == given
    reader.finish()
    reader = reader_of(lambda coder: _code_split(coder, SplitClaim(0.29, 7)))
    _code_split(reader, None)
    reader.finish()


def test_a_table_of_nothing_but_its_label_comes_back():
    reader = reader_of(lambda coder: code_schema(coder, ("y",), Schema((), "y", ("no", "yes"))))
    assert code_schema(reader, ("y",)) == Schema((), "y", ("no", "yes"))
    reader.finish()


def test_a_label_among_the_columns_is_refused_while_reading():
    def forged(coder: Coder) -> None:
        coder.integer("label", 0)
        coder.integer("columns", 1)
        coder.integer("column", 0)
        coder.flag("use", False)
        coder.integer(("classes", "count"), 0)

    with pytest.raises(InputError, match="among the columns"):
        code_schema(reader_of(forged), ("y",))


def test_bytes_that_are_no_text_are_read_as_a_text_all_the_same():
    def forged(coder: Coder) -> None:
        coder.integer("label", 0)
        coder.integer("columns", 0)
        coder.integer(("classes", "count"), 2)
        for text in (b"\xff", b"a"):
            coder.octets("classes", text)

    assert code_schema(reader_of(forged), ("y",)).classes == ("\ufffd", "a")


def test_no_second_message_is_read_as_the_same_architecture():
    """The last bit could be one as well for the arithmetic decoder: only the canonical end is accepted."""
    bits = architecture_bits(CLAMP)
    assert len(bits) == 30
    own = read_architecture(np.packbits(bits).tobytes(), (4,))
    for place in (8, 13, 22, 23, 26):
        changed = bits.copy()
        changed[place] ^= 1
        assert read_architecture(np.packbits(changed).tobytes(), (4,)) != own
    bits[-1] ^= 1
    with pytest.raises(DecodeError, match="a section that is"):
        read_architecture(np.packbits(bits).tobytes(), (4,))
