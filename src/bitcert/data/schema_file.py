"""Read a schema (:mod:`bitcert.data.schema`) from a JSON file or from what such a file holds.

The reader is strict: unknown or repeated keys, values of another type and files beyond a size are refused, each in one
sentence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitcert.canonical import parse
from bitcert.data.files import reading, refused
from bitcert.data.schema import CORRECT, Column, Schema, shown, told
from bitcert.errors import DecodeError, InputError

MAX_SCHEMA_BYTES = 1 << 20
_KEYS = frozenset({"columns", "label", "classes"})
_COLUMN_KEYS = frozenset({"name", "use", "missing", "categories"})

SchemaSource = Schema | Mapping[str, Any] | str | Path | None
"""A schema, the content of a schema file, or its path; ``None`` declares nothing."""


def load_schema(source: SchemaSource) -> Schema:
    """A schema from a file, or from what such a file holds.

    Raises:
        InputError: it cannot be read, or is none.

    >>> load_schema({"columns": [{"name": "id", "use": False}]}).text
    '{"columns":[{"name":"id","use":false}]}'
    """
    if source is None:
        return Schema()
    if isinstance(source, Schema):
        return source
    if isinstance(source, Mapping):
        return _schema(source)
    path = Path(source)
    with reading(path, ValueError), open(path, "rb") as file:
        content = file.read(MAX_SCHEMA_BYTES + 1)
    if len(content) > MAX_SCHEMA_BYTES:
        raise refused(path, f"a schema of at most {MAX_SCHEMA_BYTES:,} bytes", "more", "leave out long categories")
    try:
        return _schema(parse(content.decode("utf-8-sig"), "a schema"))
    except UnicodeDecodeError:
        raise refused(path, "a schema in JSON", "a file that is no UTF-8 text", "write it as text") from None
    except (DecodeError, InputError) as error:
        do = CORRECT if isinstance(error, DecodeError) else error.do
        raise refused(path, error.expected, error.got, do) from None


def _schema(content: Any) -> Schema:
    found = _known(content, _KEYS, "a schema")
    columns = _list(found.get("columns", []), "columns")
    label = found.get("label")
    if label is not None and not isinstance(label, str):
        raise InputError("a text as the label's name", told(label), CORRECT)
    return Schema(tuple(map(_column, columns)), label, _texts(found.get("classes", []), "classes"))


def _column(content: Any) -> Column:
    found = _known(content, _COLUMN_KEYS, "a column of the schema")
    name, flags = found.get("name"), {key: found.get(key, usual) for key, usual in (("use", True), ("missing", False))}
    if not isinstance(name, str):
        raise InputError("a name of every column of the schema", told(found), CORRECT)
    for key, value in flags.items():
        if not isinstance(value, bool):
            raise InputError(f"true or false for {key!r} of column {shown(name)}", told(value), CORRECT)
    what = f"categories of column {shown(name)}"
    if "categories" in found and not found["categories"]:
        raise InputError(f"a list of {what}", told(found["categories"]), "leave it out, or name some")
    return Column(name, flags["use"], flags["missing"], _texts(found.get("categories", []), what))


def _known(content: Any, keys: frozenset[str], what: str) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise InputError(f"{what} as an object with {', '.join(sorted(keys))}", told(content), CORRECT)
    if unknown := sorted(set(map(str, content)) - keys):
        raise InputError(
            f"{what} with the keys {', '.join(sorted(keys))} only", ", ".join(map(shown, unknown)), CORRECT
        )
    return content


def _list(value: Any, what: str) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise InputError(f"a list of {what}", told(value), CORRECT)
    return value


def _texts(value: Any, what: str) -> tuple[str, ...]:
    items = tuple(_list(value, what))
    for item in items:
        if not isinstance(item, str):
            do = f"write it in quotes, e.g. {json.dumps(str(item)[:20])}"
            raise InputError(f"texts as {what}", told(item), do)
    return items
