"""The laws Kraft's inequality rests on, by exhaustion: distinct, prefix-free, canonical, self-delimiting.

``sum 2^-length <= 1`` over everything that can be written is what the Occam bound of docs/theory.md section 2 uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.coding import ArithmeticDecoder, ArithmeticEncoder, BitReader, BitWriter, blank, code_integers
from bitcert.coding.message import MessageWriter
from bitcert.coding.trees import Comparison, Leaf, Split, Subject
from bitcert.coding.votes import Ramp, Side, Term, Votes
from bitcert.data import Column, Schema, Table
from bitcert.decoder import Helper, HelperWeights, abstaining, decode_message
from bitcert.decoder import head as bank_head
from bitcert.decoder import tensors as composed
from bitcert.decoder import trees as decision_tree
from bitcert.decoder import votes as sum_of_votes
from bitcert.decoder.decode import FAMILIES
from bitcert.decoder.tensors import Base, ComposedMessage, TensorCode
from bitcert.decoder.transforms import Coefficients
from bitcert.errors import DecodeError
from bitcert.network import capture

VALUES = range(-3, 4)
TWO_INPUTS = Helper(input_shape=(1,), num_classes=2)
"""The smallest head: 4 weights, the inputs themselves as features."""
TWO_WEIGHTS = Helper((1,), 2, predictor=capture(torch.nn.Linear(1, 2, bias=False), torch.zeros(2, 1)).architecture)
"""The smallest composed network."""


def flag_section(values: tuple[int, ...]) -> str:
    encoder = ArithmeticEncoder()
    encoder.flags(np.array(values, dtype=bool))
    return "".join(map(str, encoder.bits()))


def raw_section(values: tuple[int, ...]) -> str:
    encoder = ArithmeticEncoder()
    encoder.raw(np.array(values, dtype=bool))
    return "".join(map(str, encoder.bits()))


def tensor_section(values: tuple[int, ...], num_contexts: int = 1) -> str:
    encoder = ArithmeticEncoder()
    contexts = np.arange(len(values), dtype=np.intp) % num_contexts
    code_integers(encoder, np.array(values, dtype=np.int64), contexts)
    return "".join(map(str, encoder.bits()))


def tensor_section_in_contexts(values: tuple[int, ...]) -> str:
    return tensor_section(values, 2)


def head_file(values: tuple[int, ...]) -> str:
    message, ledger = bank_head.write(None, np.array(values).reshape(2, 2), TWO_INPUTS)
    assert ledger.total_bits == 8 * len(message)
    return "".join(f"{byte:08b}" for byte in message)


def composed_file(values: tuple[int, ...]) -> str:
    """A message of family 4 for two weights: seed, base, exponent (in use only with a non-zero weight), weights."""
    seed, base, exponent, *weights = values
    array = Coefficients(np.array(weights, dtype=np.int64).reshape(2, 1), exponent)
    code = TensorCode("identity", (), (array,), Base(base))
    message, ledger = composed.write(TWO_WEIGHTS, ComposedMessage({"weight": code}, seed))
    assert ledger.total_bits == 8 * len(message)
    return "".join(f"{byte:08b}" for byte in message)


TWO_COLUMNS = Helper((2,), 2)
DECLARED_COLUMN = Helper((2,), 2, table=Table(Schema((Column("a", categories=("x", "y", "z")),)), ("a", "b")))


def tree_file(choice: tuple[int, ...], helper: Helper = TWO_COLUMNS) -> str:
    """A leaf; or a test of which column, which value, whether equality, and which leaf or second test fails it."""
    column, value, equal, label, second = choice
    test = Comparison(Subject(column), float(value), bool(equal))
    again = Comparison(Subject(1 - column), float(value), bool(equal))
    failed = Split(again, Leaf(label), Leaf(1 - label)) if second else Leaf(1 - label)
    tree = Split(test, Leaf(label), failed) if column >= 0 else Leaf(label)
    message, ledger = decision_tree.write(tree, helper)
    assert ledger.total_bits == 8 * len(message)
    return "".join(f"{byte:08b}" for byte in message)


def declared_tree_file(choice: tuple[int, ...]) -> str:
    """The same where the values are declared."""
    return tree_file(choice, DECLARED_COLUMN)


def votes_file(choice: tuple[int, ...]) -> str:
    """What is always given; a term of a test, or of a ramp too, on one of two columns, its threshold and its vote."""
    always, ramp, column, value, vote = choice
    side = Side(Comparison(Subject(column), float(value)))
    conditions = (Ramp(Subject(1 - column), float(value), ramp), side) if ramp else (side,)
    terms = (Term(conditions, (0, vote)),) if vote else ()
    message, ledger = sum_of_votes.write(Votes((0, always), terms), TWO_COLUMNS)
    assert ledger.total_bits == 8 * len(message)
    return "".join(f"{byte:08b}" for byte in message)


def assert_prefix_code(words: list[str]) -> None:
    words = sorted(words)
    assert not any(after.startswith(word) for word, after in pairwise(words))
    assert sum(Fraction(1, 1 << len(word)) for word in words) <= 1


def cases() -> Iterator[tuple[str, Callable[[tuple[int, ...]], str], list[tuple[int, ...]]]]:
    for n in range(11):
        yield f"flags {n}", flag_section, list(product((0, 1), repeat=n))
    for n in (1, 5, 9):
        yield f"raw {n}", raw_section, list(product((0, 1), repeat=n))
    for n in range(5):
        yield f"tensor {n}", tensor_section, list(product(VALUES, repeat=n))
    yield "tensor 3 in contexts", tensor_section_in_contexts, list(product(VALUES, repeat=3))
    choices = product((0, 1, 2), (1, 2), (-12, -11, 30), range(-2, 3), range(-2, 3))
    yield "file of a composed network", composed_file, [c for c in choices if c[2] == -12 or any(c[3:])]
    yield "file of a head", head_file, list(product(range(-2, 3), repeat=4))
    trees = [(-1, 0, 0, 0, 0), (-1, 0, 0, 1, 0), *product((0, 1), (0, 1, 2, -3), (0, 1), (0, 1), (0, 1))]
    yield "file of a tree", tree_file, trees
    yield "file of a tree of categories", declared_tree_file, [each for each in trees if each[1] >= 0]
    votes = product(range(-2, 3), (0, 1, 2), (0, 1), (0, 1, 2, -3), (-2, -1, 1, 3))
    yield "file of votes", votes_file, [*votes, *((always, 0, 0, 0, 0) for always in range(-2, 3))]


CASES = {name: (write, inputs) for name, write, inputs in cases()}


@pytest.mark.parametrize("name", CASES)
def test_everything_that_can_be_written_is_a_prefix_code(name: str) -> None:
    write, inputs = CASES[name]
    assert_prefix_code([write(values) for values in inputs])


def readings(message: bytes, helpers: list[Helper]) -> set[bytes]:
    """The answers that a message gives to three examples, decoded with each of the helpers that can."""
    found = set()
    for helper in helpers:
        with suppress(DecodeError):
            examples = np.array([[0.0], [1.0], [-2.0]], np.float32)
            found.add(decode_message(message, helper).classifier(examples).numpy().tobytes())
    return found


def test_half_of_the_code_space_pays_for_two_readings_of_a_message() -> None:
    """One architecture and weights are declared, and no number of classes: which of three helpers it is is not said.

    The version of the header is the bit 1; families add their own prefix-free numbers, so that all messages together
    have at most half of the code space.
    """
    module = torch.nn.Linear(1, 2, bias=False)
    network = capture(module, torch.zeros(2, 1))
    weights = HelperWeights.of(network.architecture, network.parameters)
    given = [Helper((1,), 2, predictor=network.architecture, weights=each) for each in (None, weights)]
    helpers = [Helper((1,), 2, classes_inferred=True), *given]
    headers = [MessageWriter(family).finish()[1].sections[0][1] for family in (*FAMILIES, abstaining.FAMILY)]
    assert sum(Fraction(1, 1 << bits) for bits in headers) <= Fraction(1, 2)
    counted = {number: len(readings(number.to_bytes(2, "big"), helpers)) for number in range(0, 1 << 16, 32)}
    assert max(counted.values()) == 2
    assert all(number >= 1 << 15 for number, several in counted.items() if several)


def test_the_law_notices_a_broken_code() -> None:
    """A section cut by one bit breaks the law: it needs every bit it has."""
    words = [flag_section(values) for values in product((0, 1), repeat=4)]
    with pytest.raises(AssertionError):
        assert_prefix_code([word[:-1] for word in words])


@settings(max_examples=25, deadline=None)
@given(
    left=st.lists(st.integers(-30, 30), min_size=1, max_size=12),
    right=st.lists(st.integers(-30, 30), min_size=1, max_size=12),
)
def test_longer_tensors_are_prefix_free_too(left: list[int], right: list[int]) -> None:
    length = min(len(left), len(right))
    one, other = tuple(left[:length]), tuple(right[:length])
    words = tensor_section(one), tensor_section(other)
    assert (one == other) == (words[0].startswith(words[1]) or words[1].startswith(words[0]))


def section_bytes(word: str) -> bytes:
    writer = BitWriter()
    writer.extend(np.array([int(bit) for bit in word], dtype=np.uint8))
    return writer.to_bytes()


@pytest.mark.parametrize("tail", ["", "1" * 70, "0" * 70, "10" * 35])
def test_a_section_ends_by_itself_whatever_follows(tail: str) -> None:
    for values in product(VALUES, repeat=2):
        word = tensor_section(values)
        reader = BitReader(section_bytes(word + tail))
        decoder = ArithmeticDecoder(reader)
        assert tuple(code_integers(decoder, blank(2)).tolist()) == values
        decoder.finish()
        assert reader.position == len(word)


def decode_section(word: str, num_values: int) -> tuple[tuple[int, ...], int]:
    reader = BitReader(section_bytes(word))
    decoder = ArithmeticDecoder(reader)
    values = code_integers(decoder, blank(num_values))
    decoder.finish()
    return tuple(values.tolist()), reader.position


def test_every_10_bit_string_is_refused_or_begins_with_the_one_encoding_of_what_it_decodes_to() -> None:
    decoded, refused = set(), 0
    for number in range(1 << 10):
        word = f"{number:010b}"
        try:
            values, length = decode_section(word + "000000", 2)
        except DecodeError:
            refused += 1
            continue
        decoded.add(values)
        assert tensor_section(values) == (word + "000000")[:length]
    assert len(decoded) > 20
    assert refused > 0


def test_a_longer_name_of_the_same_interval_is_refused() -> None:
    """A string inside the interval but not the canonical one decodes to the same flags and must not be accepted."""
    refused = 0
    for values in product(VALUES, repeat=2):
        word = tensor_section(values)
        for flipped in range(len(word)):
            other = word[:flipped] + "10"[int(word[flipped])] + word[flipped + 1 :]
            try:
                decoded, length = decode_section(other, 2)
            except DecodeError:
                refused += 1
                continue
            assert decoded != values
            assert tensor_section(decoded) == other.ljust(length, "0")[:length]
    assert refused > 20


def assert_injective(message: bytes, helper: Helper) -> bool:
    """Whether these bytes decode; if so, writing what they decode to gives these bytes."""
    try:
        decoded = decode_message(message, helper)
    except DecodeError:
        return False
    head = decoded.classifier
    if isinstance(head, decision_tree.TreeClassifier):
        assert decision_tree.write(head.tree, helper) == (message, decoded.ledger)
        return True
    assert isinstance(head, bank_head.BankHead)
    assert bank_head.write(head.bank, head.weights, helper) == (message, decoded.ledger)
    return True


@settings(max_examples=80, deadline=None)
@given(body=st.binary(max_size=30))
def test_random_bytes_never_break_the_one_to_one_law(body: bytes) -> None:
    assert_injective(body, TWO_INPUTS)
    assert_injective(b"\xc0" + body, TWO_INPUTS)


def test_every_file_of_a_byte_and_a_sample_of_two_obey_the_one_to_one_law() -> None:
    files = [bytes([byte]) for byte in range(256)]
    files += [(0xA000 | number).to_bytes(2, "big") for number in range(1 << 12)]
    assert sum(assert_injective(file, TWO_INPUTS) for file in files) > 30
