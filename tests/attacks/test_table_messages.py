"""Attacks on the families of tables: bytes that are none of theirs, trees without end, sums too large to be exact."""

from __future__ import annotations

import numpy as np
import pytest

from bitcert.coding import trees as tree_code
from bitcert.coding import votes as vote_code
from bitcert.coding.trees import Comparison, Leaf, Split, Subject
from bitcert.coding.votes import Side, Term, Votes
from bitcert.data.schema import Column, Schema, Table
from bitcert.decoder import Helper, decode_message, trees, votes
from bitcert.errors import DecodeError

TABLE = Table(Schema((Column("colour", categories=("red", "green")),), "y"), ("colour", "y"))
PLAIN, DECLARED = Helper((300,), 3), Helper((300,), 3, table=TABLE)


def written(classifier: object, helper: Helper) -> bytes:
    if isinstance(classifier, trees.TreeClassifier):
        return trees.write(classifier.tree, helper)[0]
    assert isinstance(classifier, votes.VotesClassifier)
    return votes.write(classifier.votes, helper)[0]


@pytest.mark.parametrize(
    ("first", "free", "helper"), [(0b11000000, 6, PLAIN), (0b10011000, 2, PLAIN), (0b10011100, 2, DECLARED)]
)
def test_any_bytes_are_refused_or_the_one_message_of_what_they_say(first: int, free: int, helper: Helper) -> None:
    """The first byte names format 1 and family 1, 6 or 7; whatever follows is read within bounds."""
    rng, read = np.random.default_rng(first), 0
    for _ in range(150):
        message = bytes(
            [first | int(rng.integers(1 << free)), *rng.integers(0, 256, int(rng.integers(1, 30))).tolist()]
        )
        try:
            found = decode_message(message, helper)
        except DecodeError:
            continue
        if isinstance(found.classifier, trees.TreeClassifier | votes.VotesClassifier):
            assert written(found.classifier, helper) == message
            read += 1
    assert read < 150


def deep(depth: int) -> tree_code.Tree:
    tree: tree_code.Tree = Leaf(0)
    for level in range(depth):
        tree = Split(Comparison(Subject(0), float(level)), Leaf(1 + level % 2), tree)
    return tree


@pytest.mark.parametrize(("limit", "allowed", "tree"), [("MAX_DEPTH", 230, deep(210)), ("MAX_SPLITS", 1 << 13, None)])
def test_a_tree_beyond_the_limits_is_refused_while_it_is_read(monkeypatch, limit, allowed, tree) -> None:
    if tree is None:  # wide instead of deep
        tree = deep(4)
        for level in range(4, 14):
            tree = Split(Comparison(Subject(level), 0.5), tree, deep(3) if level % 2 else Leaf(0))
        monkeypatch.setattr(tree_code, "MAX_SPLITS", 1 << 20)
    monkeypatch.setattr(tree_code, limit, allowed)
    message, _ = trees.write(tree, PLAIN)
    monkeypatch.undo()
    if limit == "MAX_SPLITS":
        monkeypatch.setattr(tree_code, "MAX_SPLITS", 20)
    with pytest.raises(DecodeError, match="a tree of at most"):
        decode_message(message, PLAIN)


def term(column: int, vote: int = 1) -> Term:
    return Term((Side(Comparison(Subject(column), 1.0)),), (0, 0, vote))


BEYOND = {
    "MAX_SUBJECTS": Votes((0, 0, 0), tuple(term(k) for k in range(140))),
    "MAX_TERMS": Votes((0, 0, 0), tuple(term(0) for _ in range(4100))),
    "MAX_VOTE": Votes((0, 0, 0), (term(0, 1000),)),
}


@pytest.mark.parametrize("limit", BEYOND)
def test_votes_beyond_the_limits_are_refused_while_they_are_read(monkeypatch, limit) -> None:
    monkeypatch.setattr(vote_code, limit, 1 << 14)
    message, _ = votes.write(BEYOND[limit], PLAIN)
    monkeypatch.undo()
    with pytest.raises(DecodeError, match="at most"):
        decode_message(message, PLAIN)


def test_a_category_that_was_not_declared_has_no_word() -> None:
    """A tree cannot smuggle a threshold into a column whose numbers are known."""
    for value in (0.5, 7.0, -2.0):
        with pytest.raises(ValueError, match="no word"):
            trees.write(Split(Comparison(Subject(0), value), Leaf(0), Leaf(1)), DECLARED)


def test_trees_written_before_there_were_declared_categories_are_read() -> None:
    tree = Split(Comparison(Subject(0), 0.5), Leaf(0), Leaf(1))
    message, _ = trees.write(tree, PLAIN)
    found = decode_message(message, DECLARED).classifier
    assert isinstance(found, trees.TreeClassifier)
    assert found.tree == tree
    with pytest.raises(DecodeError, match="of a schema that declares categories"):
        decode_message(trees.write(Split(Comparison(Subject(0), 1.0), Leaf(0), Leaf(1)), DECLARED)[0], PLAIN)
