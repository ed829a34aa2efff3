"""docs/format.md is complete for trees: a decoder written from it alone accepts and refuses what bitcert does."""

from __future__ import annotations

import numpy as np
import pytest

from bitcert.coding.trees import Comparison, Leaf, Split, Subject, Tree
from bitcert.decoder import Helper, decode_message
from bitcert.decoder.trees import TreeClassifier, write
from bitcert.errors import DecodeError
from tests.reference.format_decoder import InvalidMessage, Problem
from tests.reference.format_tree import decode_tree


def random_tree(rng: np.random.Generator, columns: int, classes: int, depth: int) -> Tree:
    """A tree with thresholds of all lengths, columns and tests that come again."""
    if depth == 0 or rng.random() < 0.25:
        return Leaf(int(rng.integers(classes)))
    first, second = sorted(rng.choice(columns, 2, replace=False).tolist())
    pair = Subject(first, second, float(rng.choice([-1, 1]) * 2.0 ** rng.integers(-40, 40)))
    subject = pair if rng.random() < 0.4 else Subject(first)
    exact = float(rng.integers(-8, 9)) / 2
    value = exact if rng.random() < 0.6 else float(np.float32(rng.normal() * 10.0 ** rng.integers(-20, 20)))
    children = [random_tree(rng, columns, classes, depth - 1) for _ in range(2)]
    equal = subject.other is None and rng.random() < 0.3
    return children[0] if children[0] == children[1] else Split(Comparison(subject, value, equal), *children)


def plain(tree: Tree) -> object:
    if isinstance(tree, Leaf):
        return tree.label
    subject = tree.test.subject
    test = ((subject.column, subject.other, subject.factor), tree.test.value, tree.test.equal)
    return test, plain(tree.passed), plain(tree.failed)


def messages() -> list[tuple[bytes, Problem]]:
    rng = np.random.default_rng(7)
    found = []
    for number in range(60):
        columns, classes = int(rng.integers(2, 9)), int(rng.integers(2, 6))
        problem = Problem((columns,), classes, number % 2 == 0)
        helper = Helper(problem.input_shape, classes, classes_inferred=problem.classes_inferred)
        found.append((write(random_tree(rng, columns, classes, 6), helper)[0], problem))
    return found


MESSAGES = messages()


def ours(message: bytes, problem: Problem) -> tuple[object, list[tuple[str, int]]]:
    helper = Helper(problem.input_shape, problem.num_classes, classes_inferred=problem.classes_inferred)
    decoded = decode_message(message, helper)
    if not isinstance(decoded.classifier, TreeClassifier):
        raise DecodeError("a tree", "another family", "")
    return plain(decoded.classifier.tree), list(decoded.ledger.sections)


@pytest.mark.parametrize("number", range(len(MESSAGES)))
def test_both_decoders_read_the_same(number: int) -> None:
    message, problem = MESSAGES[number]
    assert decode_tree(message, problem) == ours(message, problem)


def test_both_decoders_refuse_the_same() -> None:
    refused = 0
    for message, problem in MESSAGES[:12]:
        for place in range(min(8 * len(message), 200)):
            changed = bytearray(message)
            changed[place // 8] ^= 128 >> place % 8
            try:
                expected = ours(bytes(changed), problem)
            except DecodeError:
                refused += 1
                with pytest.raises(InvalidMessage):
                    decode_tree(bytes(changed), problem)
            else:
                assert decode_tree(bytes(changed), problem) == expected
    assert refused > 100
