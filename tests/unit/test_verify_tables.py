"""What a verification makes of a table: which schema it is read with, and what the certificate must say of it."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

from bitcert import Role, Sample
from bitcert.certificates.reading import CannotCheckError, Checker, InvalidError, check_sample, table_schema
from bitcert.data.schema import Column, Schema, Table

COLUMNS = (Column("city"), Column("age"))
FULL = Schema(COLUMNS, "bought", ("no", "yes"))
STATED = {"label": "bought", "classes": ["no", "yes"], "schema": FULL.hash}


def of(table, **data):
    return SimpleNamespace(data={**data, "table": table}, samples=4)


def read_with(table, given=None, label=None):
    return table_schema(of(table), given, label)


@pytest.mark.parametrize(
    "given",
    [FULL, Schema(COLUMNS, "bought"), Schema(COLUMNS, None, ("no", "yes")), Schema(COLUMNS)],
    ids=["all", "no classes", "no label", "columns alone"],
)
def test_what_the_schema_leaves_out_is_taken_from_the_certificate(given):
    stated = {**STATED, "schema": given.having("bought", ("no", "yes")).hash}
    assert read_with(stated, given) == FULL


def test_without_columns_no_schema_is_needed():
    assert read_with({**STATED, "schema": None}) == Schema((), "bought", ("no", "yes"))
    assert read_with({**STATED, "schema": None, "classes": None}) == Schema((), "bought")


def test_of_no_table_what_the_user_says_is_taken():
    assert read_with(None) is None
    assert read_with(None, None, "bought") == Schema((), "bought")
    assert read_with(None, FULL) == FULL


def refusal(*arguments):
    with pytest.raises(CannotCheckError) as stop:
        read_with(*arguments)
    return str(stop.value)


def test_another_schema_is_refused_by_its_hash():
    other = Schema((Column("age"),), "bought", ("no", "yes"))
    named = f"({other.hash[:16]}…"
    assert f"that of SHA-256 {FULL.hash[:16]}…)" in refusal(STATED, other)
    assert f"got that of SHA-256 {other.hash[:16]}…;" in refusal(STATED, other)
    assert named not in refusal(STATED, None)
    assert re.search(r"got none; pass the same one with --schema$", refusal(STATED, None))
    assert "certified with (none), got that of" in refusal({**STATED, "schema": None}, FULL)


@pytest.mark.parametrize("given", [Schema((), "bought", ("a", "b")), Schema((), "other", ("no", "yes"))])
def test_other_classes_or_another_label_are_refused(given):
    """By the schema's own words where both say something."""
    said = refusal({**STATED, "schema": None}, given)
    assert said == (
        "expected the schema that the data were certified with (the certificate's label and classes), got others; "
        "pass the same one with --schema"
    )


def test_a_label_given_twice_is_refused_in_one_sentence():
    assert refusal(STATED, FULL, "age").startswith("the schema: expected one label of the table")


@pytest.mark.parametrize(
    "stated",
    [
        [],
        "table",
        ["classes", "label", "schema"],
        {},
        {**STATED, "more": 1},
        {key: STATED[key] for key in ("label", "schema")},
        {**STATED, "label": None},
        {**STATED, "label": 3},
        {**STATED, "schema": 3},
        {**STATED, "classes": "no,yes"},
        {**STATED, "classes": {"no": 1, "yes": 2}},
        {**STATED, "classes": ["no", 1]},
        {**STATED, "classes": 2},
    ],
)
def test_a_table_of_another_form_is_invalid(stated):
    expected = "data description: classes, label, schema of its table were expected"
    with pytest.raises(InvalidError, match=expected):
        read_with(stated, FULL)


def test_class_names_that_no_schema_may_have_are_invalid():
    with pytest.raises(InvalidError, match="data description: expected at least two class names"):
        read_with({**STATED, "schema": None, "classes": ["alone"]})


def sample(table):
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    return Sample(x, np.array([0, 1, 0, 1]), 2, Role.TRAIN, "t.csv", table=table)


def description(data, table):
    """Of a certificate that says the rest rightly: the line of its data's description, or what stopped the check."""
    given = sample(table)
    facts = {"name": "t.csv", "hash": given.content_hash, "num_classes": 2, "input_shape": [2], "benchmark": None}
    check = Checker()
    certificate = SimpleNamespace(data={**facts, **data}, samples=4, prior=None)
    try:
        check_sample(certificate, given, check)
    except (CannotCheckError, InvalidError) as stop:
        return str(stop)
    return next(line.holds for line in check.lines if line.name == "data description")


def test_a_table_is_described_as_one():
    table = Table(FULL, ("age", "bought", "city"))
    assert description({"table": table.describe()}, table) is True
    assert description({"table": None}, None) == "data description: 2 classes, shape [2]"
    assert description({}, None) is True
    assert description({"table": {**table.describe(), "label": "x"}}, table).startswith("data description: 2 classes")


def test_numbers_of_no_table_and_a_table_are_told_apart():
    table = Table(FULL, ("age", "bought", "city"))
    assert description({}, table) == "the data of the certificate are numbers of no table; pass its file with --data"
    stated = {"table": table.describe()}
    assert description(stated, None) == "the data of the certificate are a table; pass its file with --data"
