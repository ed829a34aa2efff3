"""bounds.json from strangers: whatever is wrong with it, reading ends in one DecodeError, fast, and repairs nothing."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.errors import DecodeError, InputError
from bitcert.theory.registry import bound
from bitcert.theory.table import BoundRow, BoundTable
from bitcert.theory.value import BoundValue, Condition, Kind, LayerValue, Unit
from tests.tools.counted import at_most

LINES = 50_000
"""Far more than reading takes, far less than a hang."""


@bound("occam-binomial", "nobody", "an error", kind=Kind.GUARANTEE, unit=Unit.ERROR, sentence="One.")
def error(inputs):
    return BoundValue(
        -1.0,
        conditions=(Condition("true", True, "by hand"),),
        ingredients={"m": 9, "names": "a\u00e9", "norms": (1.0, None), "none": None, "flag": True},
        layers=(LayerValue("w", -math.inf, 3), LayerValue("v", 900.0, 3)),
        log_printed=2.0,
        probability=0.9,
        notes=("a note",),
    )


@bound("hand-capacity", "nobody", "a capacity", kind=Kind.MEASURE, unit=Unit.SAMPLES, sentence="Two.", dropped="logs")
def capacity(inputs):
    return BoundValue(3000.0, conditions=(Condition("unknown", None, "by hand"),))


@bound("hand-zero", "nobody", "zero", kind=Kind.MEASURE, unit=Unit.PLAIN, sentence="Three.", dropped="all")
def zero(inputs):
    return BoundValue(-math.inf)


def made():
    return BoundTable(
        network={"name": "n", "content_hash": "0" * 64, "num_parameters": 6, "depth": 2, "width": 3},
        sample={"name": "s", "content_hash": "1" * 64, "num_samples": 9, "num_classes": 2, "errors": 1},
        holdout={"name": "h", "errors": 1, "samples": 4},
        gamma=0.5,
        gamma_rule="by hand",
        margin_loss=0.25,
        delta=0.05,
        rows=tuple(BoundRow.of(row, row(None), 9) for row in (error, capacity, zero)),
        layers=(("w", 3), ("v", 3)),
        settings={"seed": 0, "gamma": None, "levels": [0.1, 0.2]},
        seconds={"bounds": 0.5},
        versions={"bitcert": "0"},
    )


TEXT = made().to_json()


def canonical(content):
    return json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":")) + "\n"


def read(text):
    """The outcome of reading: a table, or the refusal."""
    with at_most(LINES):
        try:
            outcome = BoundTable.from_json(text)
        except DecodeError as refusal:
            outcome = refusal
    if isinstance(outcome, DecodeError):
        assert "bounds.json" in str(outcome)
        assert len(str(outcome)) < 1000
    return outcome


def changed(change):
    content = json.loads(TEXT)
    change(content)
    return canonical(content)


def assert_refused(text):
    assert isinstance(read(text), DecodeError)


def test_the_untouched_file_is_read():
    assert read(TEXT) == made()
    assert read(changed(lambda content: None)) == made()


def row(number):
    return lambda content: content["rows"][number]


CHANGES = {
    "another format": lambda c: c.update(format="bitcert-bounds-3"),
    "the former format": lambda c: c.update(format="bitcert-bounds-1"),
    "no format": lambda c: c.pop("format"),
    "a key too many": lambda c: c.update(extra=1),
    "a key too few": lambda c: c.pop("delta"),
    "a row's key too many": lambda c: row(0)(c).update(extra=1),
    "a row's key too few": lambda c: row(0)(c).pop("why"),
    "a network's key too many": lambda c: c["network"].update(extra=1),
    "text for a number": lambda c: c.update(gamma="0.5"),
    "a truth for a count": lambda c: c["sample"].update(errors=True),
    "a fraction for a count": lambda c: c["sample"].update(errors=0.5),
    "more errors than examples": lambda c: c["sample"].update(errors=10),
    "no examples": lambda c: c["sample"].update(errors=0, num_samples=0),
    "negative errors": lambda c: c["sample"].update(errors=-1),
    "more held-out errors than labels": lambda c: c["holdout"].update(errors=5),
    "no held-out labels": lambda c: c["holdout"].update(errors=0, samples=0),
    "gamma 0": lambda c: c.update(gamma=0.0),
    "infinite gamma": lambda c: c.update(gamma="inf"),
    "delta 0": lambda c: c.update(delta=0.0),
    "delta 1": lambda c: c.update(delta=1.0),
    "a margin loss above 1": lambda c: c.update(margin_loss=1.5),
    "an unknown kind": lambda c: row(0)(c).update(kind="truth"),
    "an unknown unit": lambda c: row(0)(c).update(unit="parsecs"),
    "an unknown status": lambda c: row(0)(c).update(status="perhaps"),
    "a status that contradicts itself": lambda c: row(0)(c).update(applies=False),
    "an unknown status that applies": lambda c: row(1)(c).update(applies=True),
    "a row twice": lambda c: row(1)(c).update(name="occam-binomial"),
    "an infinite value": lambda c: row(0)(c).update(value="inf"),
    "an infinite logarithm": lambda c: row(0)(c).update(log10="-inf"),
    "a measure that poses as a guarantee": lambda c: row(1)(c).update(
        name="arora2018-thm4.1",
        theorem_kind="guarantee",
        kind="guarantee",
        conditions=[],
        status="applies",
        applies=True,
    ),
    "a guarantee that nobody knows": lambda c: row(0)(c).update(name="mine-alone"),
    "another unit": lambda c: row(0)(c).update(unit="plain"),
    "a negative depth": lambda c: c["network"].update(depth=-5),
    "a layer of negative size": lambda c: row(0)(c)["layers"][0].update(actual=-3),
    "a single class": lambda c: c["sample"].update(num_classes=1),
    "an infinite part": lambda c: row(0)(c)["layers"][0].update(log="inf"),
    "an infinite gap": lambda c: row(1)(c).update(gap_log10="inf"),
    "a condition of another type": lambda c: row(0)(c).update(conditions=[["true", True, "by hand"]]),
    "rows that are a mapping": lambda c: c.update(rows={"0": c["rows"][0]}),
    "a layer of one part": lambda c: c.update(layers=[["w"]]),
    "a long text": lambda c: row(0)(c).update(why="x" * 5000),
    "a long number": lambda c: c["sample"].update(num_samples=10**30),
    "a list for all": lambda c: c.update(network=[]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_wrong_content_is_refused(name):
    assert_refused(changed(CHANGES[name]))


FORGERIES = {
    "a measure that calls itself a guarantee": lambda c: row(1)(c).update(kind="guarantee"),
    "a guarantee of a theorem that is none": lambda c: row(1)(c).update(kind="guarantee", theorem_kind="guarantee"),
    "a value that is not its logarithm": lambda c: row(0)(c).update(value=1e-9),
    "a logarithm without a value": lambda c: row(0)(c).update(value=None),
    "a value of a row that needs more": lambda c: row(0)(c).update(status="needs more", applies=False),
    "conditions that fail in a row that applies": lambda c: row(0)(c)["conditions"][0].update(holds=False),
    "a harmless vacuous bound": lambda c: row(0)(c).update(value=10.0, log10=1.0),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_row_that_contradicts_itself_is_refused(name):
    assert_refused(changed(FORGERIES[name]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "1",
        '"text"',
        "[" * 100_000,
        '{"a":' * 50_000,
        TEXT[:-1],
        TEXT + " ",
        TEXT.replace(",", ", ", 1),
        TEXT.replace('"gamma":0.5', '"gamma":NaN'),
        TEXT.replace('"gamma":0.5', '"gamma":1e999'),
        TEXT.replace('"gamma":0.5', '"gamma":0.50'),
        TEXT.replace('"gamma":0.5', '"gamma":0.5,"gamma":0.5'),
        TEXT.replace("\\u00e9", "\u00e9"),
        "\ufeff" + TEXT,
    ],
)
def test_a_text_that_is_not_canonical_is_refused(text):
    assert text != TEXT
    assert_refused(text)


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, len(TEXT) - 1), character=st.characters(max_codepoint=0x2FF), cut=st.integers(0, 3))
def test_any_change_of_a_few_characters_is_refused_or_canonical(position, character, cut):
    text = TEXT[:position] + character + TEXT[position + cut :]
    outcome = read(text)
    assert isinstance(outcome, DecodeError) or outcome.to_json() == text


def test_an_unknown_row_is_named():
    with pytest.raises(InputError, match="occam-binomial"):
        read(TEXT).row("hand-eror")
