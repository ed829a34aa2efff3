"""Schemas of tables: what they hold, what is refused, one hash for one content."""

import json

import pytest

from bitcert.data import Column, Schema, load_schema
from bitcert.data import schema_file as reader
from bitcert.data.schema import MAX_TEXT, Table
from bitcert.errors import InputError

FULL = {
    "columns": [
        {"name": "state", "categories": ["KS", "OH"]},
        {"name": "minutes"},
        {"name": "id", "use": False},
        {"name": "plan", "missing": True},
    ],
    "label": "churn",
    "classes": ["no", "yes"],
}


def refuse(content, match):
    with pytest.raises(InputError, match=match) as caught:
        load_schema(content)
    assert "\n" not in str(caught.value)


def test_all_that_a_schema_can_say(tmp_path):
    schema = load_schema(FULL)
    assert schema.columns == (
        Column("state", categories=("KS", "OH")),
        Column("minutes"),
        Column("id", use=False),
        Column("plan", missing=True),
    )
    assert (schema.label, schema.classes) == ("churn", ("no", "yes"))
    assert [column.inputs for column in schema.columns] == [
        ("state",), ("minutes",), (), ("plan", "plan is missing"),
    ]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(FULL, indent=7))
    (tmp_path / "b.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(FULL, sort_keys=True).encode())
    assert load_schema(tmp_path / "a.json") == load_schema(str(tmp_path / "b.json")) == load_schema(schema) == schema
    assert load_schema(None) == Schema() == load_schema({})


def test_the_hash_is_of_the_content_alone():
    schema = load_schema(FULL)
    assert load_schema(json.loads(schema.text)) == schema
    spelled_out = {**FULL, "columns": [{"use": True, "missing": False, **column} for column in FULL["columns"]]}
    assert load_schema(spelled_out).hash == schema.hash
    hashes = {schema.hash}
    for key, value in (("label", "other"), ("classes", ["yes", "no"]), ("columns", FULL["columns"][::-1])):
        hashes.add(load_schema({**FULL, key: value}).hash)
    for change in ({"missing": True}, {"categories": ["OH", "KS"]}, {"name": "State"}):
        hashes.add(load_schema({**FULL, "columns": [{**FULL["columns"][0], **change}, *FULL["columns"][1:]]}).hash)
    assert len(hashes) == 7
    assert schema.hash == "5d7bd2e398d8449045290789fa2c4ab2114cafbf9a1ce77774376f9f8b3f99cd", (
        "one schema has one hash for ever"
    )


def test_what_is_declared_beside_a_schema():
    schema = load_schema({"columns": [{"name": "a"}]})
    assert schema.having("y", ["no", "yes"]) == Schema((Column("a"),), "y", ("no", "yes"))
    assert schema.having() == schema
    assert load_schema(FULL).having("churn", ("no", "yes")) == load_schema(FULL)
    for label, classes in (("other", ()), (None, ("yes", "no"))):
        with pytest.raises(InputError, match=r"in the schema and .* beside it"):
            load_schema(FULL).having(label, classes)
    with pytest.raises(InputError, match="label 'a' among the columns"):
        schema.having("a")


def test_a_completed_schema_lists_all_columns():
    table = Table(load_schema(FULL), ("a", "b"), ("b", "a"))
    assert [column.name for column in table.completed.columns] == ["state", "minutes", "id", "plan", "b", "a"]
    told = {"label": "churn", "classes": ["no", "yes"], "schema": load_schema(FULL).hash}
    assert table.describe() == {**told, "columns": ["b", "a"]}
    assert Table(Schema(label="y"), ()).describe() == {"label": "y", "classes": None, "schema": None}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"column": []}, r"keys classes, columns, label only.*, got .column."),
        ({"columns": {}}, "a list of columns"),
        ({"columns": ["a"]}, "a column of the schema as an object"),
        ({"columns": [{}]}, "a name of every column"),
        ({"columns": [{"name": 1}]}, "a name of every column"),
        ({"columns": [{"name": ""}]}, r"a column.s name.*, got an empty text"),
        ({"columns": [{"name": " a"}]}, "without spaces around"),
        ({"columns": [{"name": "a"}, {"name": "a"}]}, "'a' twice"),
        ({"columns": [{"name": "a", "missing": True}, {"name": "a is missing"}]}, "'a is missing' twice"),
        ({"columns": [{"name": "a", "typ": 1}]}, "got 'typ'"),
        ({"columns": [{"name": "a", "use": "no"}]}, "true or false for 'use'"),
        ({"columns": [{"name": "a", "missing": 1}]}, "true or false for 'missing'"),
        ({"columns": [{"name": "a", "use": False, "missing": True}]}, "nothing more of column 'a'"),
        ({"columns": [{"name": "a", "categories": []}]}, "a list of categories of column 'a'"),
        ({"columns": [{"name": "a", "categories": "KS"}]}, "a list of categories"),
        ({"columns": [{"name": "a", "categories": [1, 2]}]}, 'write it in quotes, e.g. "1"'),
        ({"columns": [{"name": "a", "categories": ["b", "b"]}]}, "'b' twice"),
        ({"columns": [{"name": "a", "categories": ["b "]}]}, "without spaces around"),
        ({"columns": [{"name": "a", "categories": ["\ud800"]}]}, "UTF-8"),
        ({"columns": [{"name": "x" * (MAX_TEXT + 1)}]}, "at most 1000 characters"),
        ({"label": 3}, "a text as the label's name"),
        ({"label": "a", "columns": [{"name": "a"}]}, "label 'a' among the columns"),
        ({"classes": ["yes"]}, "at least two class names"),
        ({"classes": ["yes", ""]}, "none of them empty"),
        ({"classes": ["yes", "yes"]}, "'yes' twice"),
        ({"classes": ["no", True]}, "texts as classes"),
        ({"classes": [f"{k:0900}" for k in range(100)]}, "65,536 bytes"),
    ],
)
def test_what_is_no_schema_is_refused(tmp_path, content, match):
    refuse(content, match)
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(content))
    refuse(path, match)
    with pytest.raises(InputError, match=r"in .*schema\.json"):
        load_schema(path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not JSON"),
        (b"[1]", "a schema as an object"),
        (b'{"label": "a", "label": "b"}', "a key given twice"),
        (b'{"classes": [NaN]}', "the number NaN"),
        (b'{"label": ' + b"9" * 50 + b"}", "19 digits"),
        (b'{"columns": ' + b"[" * 100_000, "not JSON"),
        (b"\xff\xfe{", "no UTF-8"),
        (b'{"label": "\xff"}', "no UTF-8"),
        (b" " * (reader.MAX_SCHEMA_BYTES + 1), "1,048,576 bytes"),
    ],
)
def test_what_is_no_file_of_a_schema_is_refused(tmp_path, content, match):
    path = tmp_path / "schema.json"
    path.write_bytes(content)
    refuse(path, match)
    refuse(tmp_path / "gone.json", "readable file")
    refuse(tmp_path, "readable file")
