"""Votes as classifiers and as messages: one example at a time, an independent decoder, damaged messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitcert.coding.trees import Comparison, Subject
from bitcert.coding.votes import MAX_SUBJECTS, MAX_VOTE, Condition, Ramp, Side, Term, Votes, rank_of
from bitcert.data.schema import Column, Schema, Table
from bitcert.decoder import Helper, decode_message
from bitcert.decoder.votes import VotesClassifier, term_values, write
from bitcert.errors import DecodeError
from tests.reference.format_decoder import InvalidMessage, Problem
from tests.reference.format_tree import decode_votes

COLOURS = Schema((Column("colour", categories=("red", "green", "blue")), Column("size", missing=True)), "y")
TABLE = Table(COLOURS, ("colour", "size", "y"))
DECLARED = {0: range(-1, 4), 2: range(2)}
"""A missing colour is -1, another one 3; the second input of the size says whether it is missing."""


def random_subject(rng: np.random.Generator, columns: int) -> Subject:
    first, second = sorted(rng.choice(columns, 2, replace=False).tolist())
    pair = Subject(first, second, float(rng.choice([-1, 1]) * 2.0 ** rng.integers(-40, 40)))
    return pair if rng.random() < 0.4 else Subject(first)


def random_test(rng: np.random.Generator, subject: Subject, declared: dict[int, range]) -> Comparison:
    if subject.other is None and subject.column in declared:
        return Comparison(subject, float(rng.choice(declared[subject.column])), bool(rng.random() < 0.5))
    value = float(rng.integers(-8, 9)) / 2 if rng.random() < 0.6 else float(np.float32(rng.normal() * 1e3))
    return Comparison(subject, value, subject.other is None and rng.random() < 0.3)


def random_term(rng: np.random.Generator, first: Subject, columns: int, classes: int, declared) -> Term:
    others = [random_test(rng, random_subject(rng, columns), declared) for _ in range(rng.choice([0, 0, 1, 3]))]
    conditions: list[Condition] = [Side(test, bool(rng.random() < 0.5)) for test in others]
    if rng.random() < 0.3:
        head: Condition = Ramp(first, float(rng.integers(-2, 3)), int(rng.integers(-20, 20)))
    else:
        head = Side(random_test(rng, first, declared), not others or bool(rng.random() < 0.5))
    votes = rng.integers(-5, 6, classes) * (rng.random(classes) < 0.6)
    votes[0] *= classes > 2
    votes[-1] += not votes.any()
    return Term((head, *conditions), tuple(votes.tolist()))


def random_votes(rng: np.random.Generator, columns: int, classes: int, declared: dict[int, range]) -> Votes:
    subjects = {random_subject(rng, columns) for _ in range(rng.integers(0, 7))}
    always = rng.integers(-4, 5, classes)
    always[0] *= classes > 2
    ordered = sorted(subjects, key=lambda subject: (*rank_of(subject), subject.factor))
    terms = [random_term(rng, s, columns, classes, declared) for s in ordered for _ in range(rng.integers(1, 4))]
    return Votes(tuple(always.tolist()), tuple(terms))


def cases() -> list[tuple[Votes, Problem, Helper]]:
    rng = np.random.default_rng(7)
    found = []
    for number in range(60):
        columns, classes, inferred = int(rng.integers(3, 9)), int(rng.integers(2, 6)), number % 2 == 0
        table = TABLE if number % 3 == 0 else None
        helper = Helper((columns,), classes, classes_inferred=inferred, table=table)
        votes = random_votes(rng, columns, classes, DECLARED if table else {})
        found.append((votes, Problem((columns,), classes, inferred), helper))
    return found


CASES = cases()


def plain(votes: Votes) -> object:
    def of(subject: Subject) -> object:
        return subject.column, subject.other, subject.factor

    def told(condition: Condition) -> object:
        if isinstance(condition, Ramp):
            return of(condition.subject), condition.value, condition.exponent
        test = condition.test
        return (of(test.subject), test.value, test.equal), condition.passed

    return votes.always, tuple((tuple(map(told, term.conditions)), term.votes) for term in votes.terms)


def ours(message: bytes, helper: Helper) -> tuple[object, list[tuple[str, int]]]:
    decoded = decode_message(message, helper)
    if not isinstance(decoded.classifier, VotesClassifier):
        raise DecodeError("votes", "another family", "")
    return plain(decoded.classifier.votes), list(decoded.ledger.sections)


@pytest.mark.parametrize("number", range(0, len(CASES), 4))
def test_a_message_comes_back_and_both_decoders_read_the_same(number: int) -> None:
    for votes, problem, helper in CASES[number : number + 4]:
        message, ledger = write(votes, helper)
        found = ours(message, helper)
        assert found == (plain(votes), list(ledger.sections))
        assert sum(bits for _, bits in ledger.sections) == 8 * len(message)
        assert decode_votes(message, problem, DECLARED if helper.table else None) == found


def test_both_decoders_refuse_the_same() -> None:
    refused = 0
    for votes, problem, helper in CASES[:10]:
        message, _ = write(votes, helper)
        declared = DECLARED if helper.table else None
        for place in range(min(8 * len(message), 150)):
            changed = bytearray(message)
            changed[place // 8] ^= 128 >> place % 8
            try:
                expected = ours(bytes(changed), helper)
            except DecodeError:
                refused += 1
                with pytest.raises(InvalidMessage):
                    decode_votes(bytes(changed), problem, declared)
            else:
                assert decode_votes(bytes(changed), problem, declared) == expected
    assert refused > 100


def value_of(condition: Condition, x: list[float]) -> float:
    """One example, as the page on the format says it."""
    subject = condition.subject
    seen = x[subject.column] + (0.0 if subject.other is None else subject.factor * x[subject.other])
    if isinstance(condition, Ramp):
        return sum(seen > condition.value + i * 2.0**condition.exponent for i in range(32)) / 8
    passed = seen == condition.test.value if condition.test.equal else seen <= condition.test.value
    return float(passed is condition.passed)


VOTES = Votes(
    (0, -3, 1),
    (
        Term((Ramp(Subject(0), -2.0, -3),), (2, 0, -1)),
        Term((Side(Comparison(Subject(1), 1.0)),), (0, 4, 0)),
        Term((Side(Comparison(Subject(1), 2.0, True), False), Side(Comparison(Subject(2), 0.0))), (0, 0, 5)),
        Term((Ramp(Subject(1, 2, -0.5), 0.0, -2), Side(Comparison(Subject(0), 0.5), False)), (0, -1, 0)),
    ),
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_are_exact_and_those_of_one_example_at_a_time(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.integers(-4, 5, (200, 3)), rng.normal(size=(200, 3))]).astype(np.float32)
    message, _ = write(VOTES, helper := Helper((3,), 3))
    found = decode_message(message, helper).classifier.logits(x, dtype)
    assert found.dtype == dtype
    for row, sums in zip(x.tolist(), found.tolist(), strict=True):
        terms = [(np.prod([value_of(c, row) for c in term.conditions]), term.votes) for term in VOTES.terms]
        assert sums == [a + sum(value * votes[k] for value, votes in terms) for k, a in enumerate(VOTES.always)]
    assert len(set(found.argmax(1).tolist())) == 3


def test_terms_are_worth_to_the_search_what_they_are_to_the_decoder() -> None:
    x = np.random.default_rng(4).integers(-4, 5, (60, 3)).astype(np.float32)
    for term in VOTES.terms:
        expected = [np.prod([value_of(c, row) for c in term.conditions]) for row in x.tolist()]
        assert term_values(term.conditions, x).tolist() == expected


ONE = Side(Comparison(Subject(0), 1.0))
SMALL = [
    (Votes((0, 3), ()), 1, "one answer for everything"),
    (Votes((0, 1), (Term((ONE,), (0, -2)),)), 1, "a vote of 1 term"),
    (Votes((0, 1), (Term((ONE,), (0, -2)), Term((ONE, ONE, ONE, ONE), (0, 7)))), 1, "a vote of 2 terms"),
    (Votes((0, 1), (Term((Side(Comparison(Subject(0, 1, 1.0), 1.0)),), (0, -2)),)), 2, "a vote of 1 term"),
]


@pytest.mark.parametrize(("votes", "columns", "told"), SMALL)
def test_the_smallest_votes(votes: Votes, columns: int, told: str) -> None:
    """No term; fewer conditions than another term; more conditions than classes; a sum of two columns as they are."""
    helper = Helper((columns,), 2)
    decoded = decode_message(write(votes, helper)[0], helper)
    assert decoded.description == told
    x = [[-3.0, 1.0][:columns], [1.0, 2.0][:columns], [2.0, -2.0][:columns]]
    values = [[np.prod([value_of(c, row) for c in term.conditions]) for term in votes.terms] for row in x]
    sums = [votes.always[1] + sum(v * t.votes[1] for v, t in zip(row, votes.terms, strict=True)) for row in values]
    assert decoded.classifier(np.array(x, np.float32))[:, 1].tolist() == sums


def test_a_ramp_goes_from_0_to_4_whatever_the_unit() -> None:
    x = np.array([[-1e30], [0], [1e-9], [2e-9], [1], [3e38]], dtype=np.float32)
    ramp = Ramp(Subject(0), 0.0, -34)
    assert term_values((ramp,), x).tolist() == [0, 0, 18 / 8, 35 / 8 if 35 < 32 else 4, 4, 4]


WRONG = [
    Votes((0, 200), ()),
    Votes((0, 0), (Term((Side(Comparison(Subject(0), 1.0)),), (0, MAX_VOTE + 1)),)),
    Votes((1, 0), ()),
    Votes((0, 0), (Term((Side(Comparison(Subject(0), 1.0)),), (0, 0)),)),
    Votes((0, 0), (Term((Side(Comparison(Subject(0), 1.0), False),), (0, 1)),)),
    Votes((0, 0), tuple(Term((Side(Comparison(Subject(k), 1.0)),), (0, 1)) for k in range(MAX_SUBJECTS + 1))),
    Votes((0, 0), tuple(Term((Side(Comparison(Subject(k), 1.0)),), (0, 1)) for k in (3, 2))),
]


@pytest.mark.parametrize("votes", WRONG)
def test_what_the_code_has_no_word_for_is_not_written(votes: Votes) -> None:
    with pytest.raises((ValueError, DecodeError)):
        write(votes, Helper((300,), 2))


def test_a_declared_category_costs_what_its_number_of_values_does() -> None:
    """Two bits and a third among 5 values, where a threshold of any column takes 8 and more."""
    votes = Votes((0, 0), (Term((Side(Comparison(Subject(0), 3.0, True)),), (0, 1)),))
    lengths = [dict(write(votes, Helper((8,), 2, table=table))[1].sections)["votes"] for table in (None, TABLE)]
    assert lengths[1] <= lengths[0] - 6
