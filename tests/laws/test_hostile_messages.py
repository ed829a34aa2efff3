"""Damaged and forged messages: a DecodeError or another hypothesis, never anything else, in bounded memory and time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.coding import ArithmeticEncoder, MessageWriter
from bitcert.coding.rows import RowCounts
from bitcert.coding.tensors import UNARY_MAGNITUDES
from bitcert.coding.trees import Comparison, Leaf, Split, Subject
from bitcert.coding.votes import Ramp, Side, Term, Votes
from bitcert.decoder import Helper, decode_message
from bitcert.decoder import head as bank_head
from bitcert.decoder import trees as decision_tree
from bitcert.decoder import votes as sum_of_votes
from bitcert.decoder.features.banks import BANKS
from bitcert.errors import DecodeError
from tests.tools.counted import at_most

IMAGES = Helper(input_shape=(1, 8, 8), num_classes=4)


def sparse_integers(num_values: int, every: int) -> np.ndarray:
    places = np.arange(num_values, dtype=np.int64)
    return np.where(places * 7919 % every == 0, places * 104729 % 9 - 4, 0)


def head_message(number: int, every: int) -> bytes:
    model = bank_head.row_model(BANKS[number], IMAGES)
    weights = sparse_integers(len(model.groups) * model.columns, every).reshape(-1, model.columns)
    return bank_head.write(BANKS[number], weights, IMAGES)[0]


def contents(message: bytes) -> tuple[object, bytes]:
    """The hypothesis of a message, comparable, and the one message it is written as."""
    classifier = decode_message(message, IMAGES).classifier
    if isinstance(classifier, decision_tree.TreeClassifier):
        return classifier.tree, decision_tree.write(classifier.tree, IMAGES)[0]
    if isinstance(classifier, sum_of_votes.VotesClassifier):
        return classifier.votes, sum_of_votes.write(classifier.votes, IMAGES)[0]
    assert isinstance(classifier, bank_head.BankHead)
    again, _ = bank_head.write(classifier.bank, classifier.weights, IMAGES)
    return (classifier.bank, classifier.weights.tobytes()), again


def tree_message() -> bytes:
    tree = Split(Comparison(Subject(20), 8.0), Leaf(3), Split(Comparison(Subject(3, 7, -2.0), 1.5), Leaf(0), Leaf(2)))
    return decision_tree.write(Split(Comparison(Subject(20), 3.0), tree, Leaf(1)), IMAGES)[0]


def votes_message() -> bytes:
    sides = Side(Comparison(Subject(20), 8.0), False), Side(Comparison(Subject(3, 7, -2.0), 1.5))
    none = (0,) * (IMAGES.num_classes - 2)
    terms = Term((Ramp(Subject(5), 0.5, -3),), (1, -2, *none)), Term(sides, (0, 3, *none))
    return sum_of_votes.write(Votes((2, 0, *none), terms), IMAGES)[0]


MESSAGES: dict[str, Callable[[], bytes]] = {
    "tree": tree_message,
    "votes": votes_message,
    "dense": lambda: head_message(6, 17),
    "sparse": lambda: head_message(0, 29),
}


def outcome(message: bytes) -> tuple[object, bytes] | None:
    try:
        return contents(message)
    except DecodeError:
        return None


@pytest.mark.parametrize("name", MESSAGES)
def test_truncated_at_every_length(name: str) -> None:
    message = MESSAGES[name]()
    assert outcome(message) is not None
    for length in range(len(message)):
        assert outcome(message[:length]) is None
    assert outcome(message + b"\x00") is None


@pytest.mark.parametrize("name", MESSAGES)
def test_every_bit_flipped(name: str) -> None:
    message = MESSAGES[name]()
    original, again = contents(message)
    assert again == message
    refused = 0
    for bit in range(8 * len(message)):
        changed = bytearray(message)
        changed[bit >> 3] ^= 0x80 >> (bit & 7)
        found = outcome(bytes(changed))
        refused += found is None
        if found is not None:
            assert found[0] != original
            assert found[1] == bytes(changed)
    assert refused > 4 * len(message)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(MESSAGES)))
def test_bytes_replaced_inserted_or_removed(data: st.DataObject, name: str) -> None:
    message = MESSAGES[name]()
    original, _ = contents(message)
    start = data.draw(st.integers(0, len(message)))
    stop = data.draw(st.integers(start, len(message)))
    changed = message[:start] + data.draw(st.binary(max_size=10)) + message[stop:]
    found = outcome(changed)
    assert (found is None) or (found[0] == original) == (changed == message)


@settings(max_examples=50, deadline=None)
@given(body=st.binary(max_size=80), header=st.sampled_from([b"", b"\xc0", b"\xa0", b"\xb0"]))
def test_random_bytes(body: bytes, header: bytes) -> None:
    found = outcome(header + body)
    assert found is None or found[1] == header + body


def forged_head(num_rows: int, columns: int, digits: bool) -> bytes:
    """A few bytes that announce the largest head, every row used and every weight beyond the unary magnitudes."""
    encoder, writer = ArithmeticEncoder(), MessageWriter(bank_head.FAMILY)
    encoder.counted(np.ones(num_rows, dtype=bool), np.zeros(num_rows, dtype=np.intp), RowCounts(1))
    for number in (num_rows * (columns - 1), num_rows, columns):
        encoder.flags(np.ones(number, dtype=bool))
    yes = np.ones((num_rows + 1) * columns, dtype=bool)
    for _ in range(1 + UNARY_MAGNITUDES):
        encoder.flags(yes)
    encoder.flags(yes if digits else ~yes)
    with writer.section("weights") as bits:
        bits.extend(encoder.bits())
    return writer.finish()[0]


@pytest.mark.parametrize("digits", [False, True])
def test_a_short_message_of_a_large_head_takes_bounded_memory(digits: bool) -> None:
    helper = Helper(input_shape=((1 << 16) - 1,), num_classes=2)
    num_weights = 1 << 17
    message = forged_head((1 << 16) - 1, 2, digits)
    assert len(message) < 60
    tracemalloc.start()
    found = None
    try:
        with at_most(100_000):
            found = decode_message(message, helper)
    except DecodeError:
        assert digits
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found is None) == digits
    assert peak < 80 * num_weights
    assert 80 * bank_head.MAX_WEIGHTS < 1 << 29


ABSURD = [(10**9,), (1 << 62, 1 << 62), (3, 1 << 40), (1, 1, 1 << 30)]


@pytest.mark.parametrize("input_shape", ABSURD)
def test_absurd_sizes_are_refused_before_anything_is_allocated(input_shape: tuple[int, ...]) -> None:
    tracemalloc.start()
    with pytest.raises(DecodeError):
        decode_message(b"\xc0" + bytes(20), Helper(input_shape, 10))
    with pytest.raises(DecodeError):
        decode_message(b"\xc0" + bytes(20), Helper((1, 8, 8), 10**9))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
