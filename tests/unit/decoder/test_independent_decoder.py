"""docs/format.md is complete: a decoder written from it alone accepts and refuses what bitcert does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bitcert.decoder import Helper, abstaining, decode_message
from bitcert.errors import DecodeError
from tests.reference.format_decoder import InvalidMessage, Problem, decode

ROOT = Path(__file__).parents[3]
PROBLEMS = {
    "digits": Problem((1, 8, 8), 10, False),
    "second-edges": Problem((1, 8, 8), 10, False),
    "colour": Problem((3, 12, 12), 4, True),
    "mirrored": Problem((3, 12, 12), 4, True),
    "waves": Problem((3, 12, 12), 4, True),
    "vectors": Problem((6,), 3, True),
}
"""Of the golden messages, as ``tests/golden/make.py`` writes them."""


def messages() -> Iterator[tuple[str, bytes, Problem]]:
    """Every golden message and every record of family 2."""
    for file in sorted((ROOT / "tests" / "golden").glob("*.bin")):
        family, _, problem = file.stem.partition("-")
        if family == "bank":
            yield file.stem, file.read_bytes(), PROBLEMS[problem]
    for file in sorted((ROOT / "records").glob("*/message.bin")):
        helper = json.loads(file.with_name("certificate.json").read_text())["helper"]
        if helper["architecture"] is None:
            problem = Problem(tuple(helper["input_shape"]), helper["num_classes"], helper["classes_inferred"])
            yield f"record {file.parent.name}", file.read_bytes(), problem


MESSAGES = {name: (message, problem) for name, message, problem in messages()}


def helper_of(problem: Problem) -> Helper:
    return Helper(problem.input_shape, problem.num_classes, classes_inferred=problem.classes_inferred)


def test_all_golden_heads_and_the_records_are_among_the_messages() -> None:
    families = [decode(message, problem).family for message, problem in MESSAGES.values()]
    assert families == [2] * (6 + sum(name.startswith("record") for name in MESSAGES))
    assert any(name.startswith("record") for name in MESSAGES)


@pytest.mark.parametrize("name", MESSAGES)
def test_both_decoders_read_the_same(name: str) -> None:
    message, problem = MESSAGES[name]
    ours, theirs = decode_message(message, helper_of(problem)), decode(message, problem)
    assert theirs.ledger == list(ours.ledger.sections)
    np.testing.assert_array_equal(theirs.weights, ours.classifier.weights)


@pytest.mark.parametrize("name", ["bank-vectors", "bank-digits", "bank-colour"])
def test_both_decoders_refuse_the_same(name: str) -> None:
    message, problem = MESSAGES[name]
    for place in range(min(8 * len(message), 96)):
        changed = bytearray(message)
        changed[place // 8] ^= 128 >> place % 8
        try:
            ours = decode_message(bytes(changed), helper_of(problem)).classifier.weights
        except DecodeError:
            with pytest.raises(InvalidMessage):
                decode(bytes(changed), problem)
        else:
            np.testing.assert_array_equal(decode(bytes(changed), problem).weights, ours)


@pytest.mark.parametrize("exponent", [-240, 0, 13, 240])
def test_surrogates_that_abstain_are_read_alike(exponent: int) -> None:
    for message, problem in MESSAGES.values():
        wrapped = abstaining.write(message, exponent)
        theirs, ours = decode(wrapped, problem), decode_message(wrapped, helper_of(problem))
        assert theirs.threshold == exponent
        assert tuple(theirs.ledger) == ours.ledger.sections
        assert ours.abstains_within == pytest.approx(2 ** (exponent / 4), rel=1e-15)
    for twice in (abstaining.write(wrapped, 1), wrapped[:2]):
        with pytest.raises(InvalidMessage):
            decode(twice, problem)
