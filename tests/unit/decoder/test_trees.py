"""Trees as classifiers: one example at a time, in both precisions, and as messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitcert.coding.trees import Comparison, Leaf, Split, Subject, Tree
from bitcert.decoder import Helper, Preprocessing, decode_message
from bitcert.decoder.trees import TreeClassifier, answers, write
from bitcert.errors import DecodeError

TREE = Split(
    Comparison(Subject(0), 0.5),
    Split(Comparison(Subject(1, 2, -2.0), 1.0), Leaf(2), Leaf(0)),
    Split(Comparison(Subject(2), 3.0, equal=True), Leaf(1), Leaf(2)),
)
HELPER = Helper((3,), 3, classes_inferred=True)


def answer(tree: Tree, x: list[float]) -> int:
    """One example, as the page on the format says it."""
    while isinstance(tree, Split):
        subject = tree.test.subject
        value = x[subject.column] + (0.0 if subject.other is None else subject.factor * x[subject.other])
        passed = value == tree.test.value if tree.test.equal else value <= tree.test.value
        tree = tree.passed if passed else tree.failed
    return tree.label


def examples() -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.concatenate([rng.integers(-4, 5, (300, 3)), rng.normal(size=(300, 3))]).astype(np.float32)


def test_answers_are_those_of_one_example_at_a_time() -> None:
    x = examples()
    found = answers(TREE, x)
    assert found.tolist() == [answer(TREE, [float(value) for value in row]) for row in x]
    assert set(found.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_are_one_for_the_answer_in_either_precision(dtype: torch.dtype) -> None:
    logits = TreeClassifier(TREE, 3).logits(examples(), dtype)
    assert logits.dtype == dtype
    assert logits.sum(1).tolist() == [1.0] * len(logits)
    assert logits.argmax(1).tolist() == answers(TREE, examples()).tolist()


def test_inputs_are_compared_as_they_are_in_the_data() -> None:
    """Preprocessing divides and rounds; a tree that looks at its result would decide otherwise near a threshold."""
    helper = Helper((1,), 2, Preprocessing(scale=255.0))
    message, _ = write(Split(Comparison(Subject(0), 17.0), Leaf(0), Leaf(1)), helper)
    pixels = np.array([[16], [17], [18]], dtype=np.uint8)
    assert decode_message(message, helper).classifier(pixels).argmax(1).tolist() == [0, 0, 1]


def test_a_message_comes_back_with_its_ledger() -> None:
    message, ledger = write(TREE, HELPER)
    decoded = decode_message(message, HELPER)
    assert decoded.classifier.tree == TREE
    assert decoded.ledger == ledger
    assert ledger.total_bits == 8 * len(message)
    assert dict(ledger.sections)["number of classes"] == 3, "Elias gamma of one less"
    assert decoded.description == "a decision tree of 3 tests and 4 answers"


@pytest.mark.parametrize(
    ("tree", "described"),
    [
        (Leaf(1), "one answer for everything"),
        (Split(Comparison(Subject(0), 1.0), Leaf(1), Leaf(0)), "a decision tree of 1 test and 2 answers"),
    ],
)
def test_small_trees_are_described_in_words(tree: Tree, described: str) -> None:
    assert decode_message(write(tree, HELPER)[0], HELPER).description == described


def test_inputs_of_any_shape_are_flattened() -> None:
    tree = Split(Comparison(Subject(3), 0.5), Leaf(0), Leaf(1))
    inputs = np.arange(8, dtype=np.uint8).reshape(2, 2, 2) // 4
    assert TreeClassifier(tree, 2).logits(inputs, torch.float32).tolist() == [[1, 0], [0, 1]]


def test_at_most_2_to_the_24_columns_and_2_to_the_20_classes() -> None:
    """As docs/format.md says, in both directions."""
    tree = Split(Comparison(Subject(5), 1.0), Leaf(1), Leaf(0))
    wide, many = Helper((1 << 12, 1 << 12), 2), Helper((6,), 1 << 20)
    for helper in (wide, many):
        assert decode_message(write(tree, helper)[0], helper).classifier.tree == tree
    for helper, larger in ((wide, Helper(((1 << 24) + 1,), 2)), (many, Helper((6,), (1 << 20) + 1))):
        with pytest.raises(DecodeError, match="at most 16,777,216 columns and 1,048,576 classes"):
            write(tree, larger)
        with pytest.raises(DecodeError, match="at most 16,777,216 columns and 1,048,576 classes"):
            decode_message(write(tree, helper)[0], larger)


def test_a_tree_without_a_word_is_not_written() -> None:
    with pytest.raises(ValueError, match="no word for this tree"):
        write(Split(Comparison(Subject(0), 1.0), Leaf(1), Leaf(1)), HELPER)


def test_every_changed_bit_is_refused_or_another_canonical_message() -> None:
    message, _ = write(TREE, HELPER)
    for place in range(8 * len(message)):
        changed = bytearray(message)
        changed[place // 8] ^= 128 >> place % 8
        try:
            tree = decode_message(bytes(changed), HELPER).classifier.tree
        except (DecodeError, AttributeError):
            continue
        assert write(tree, HELPER)[0] == bytes(changed)


def test_every_shorter_or_longer_file_is_refused() -> None:
    message, _ = write(TREE, HELPER)
    for other in (*(message[:length] for length in range(len(message))), message + b"\0"):
        with pytest.raises(DecodeError):
            decode_message(other, HELPER)
