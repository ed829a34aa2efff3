"""The schema of a table: what a user declares of its columns, its label and its classes before the data are seen.

A small JSON file, of which every key may be left out::

    {"columns": [{"name": "state", "categories": ["KS", "OH"]}, {"name": "id", "use": false},
                 {"name": "plan", "missing": true}],
     "label": "churn", "classes": ["no", "yes"]}

The columns listed come first, in the order of the schema, and then all others in the order of the file. A schema that
lists them all makes the order of the file's columns irrelevant.

A schema is a part of what the classifier is, so it belongs to the helper string of a certificate: its hash (of the
canonical text, whatever the spaces of the file) is told there, and ``self_contained`` charges for its content.

Not guaranteed: that it was written before the data were seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

from bitcert.canonical import encode_text
from bitcert.errors import InputError

MAX_TEXT = 1_000
"""Characters of a name, a category or a class."""

MAX_CLASS_BYTES = 1 << 16
"""All class names together, which a certificate repeats."""

MAX_NAMED_BYTES = 1 << 16
"""All names of columns together that a certificate repeats."""

INDICATOR = "{} is missing"
"""Name of the second input of a column that is declared to have missing cells."""

CORRECT = "correct the schema"


@dataclass(frozen=True)
class Column:
    """What is declared of one column.

    Args:
        name: as the table's header says it.
        use: whether it is an input at all.
        missing: whether its cells may be missing; then it makes two inputs.
        categories: its texts, which become ``0 .. k-1``; none: numbers and buckets.
    """

    name: str
    use: bool = True
    missing: bool = False
    categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.name, "a column's name")
        _check_texts(self.categories, f"categories of column {shown(self.name)}")
        if not self.use and (self.missing or self.categories):
            got = "missing or categories beside it"
            raise InputError(f"nothing more of column {shown(self.name)}, which has use: false", got, CORRECT)

    @cached_property
    def codes(self) -> Mapping[str, int] | None:
        """The place of each category."""
        return {text: place for place, text in enumerate(self.categories)} if self.categories else None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs it makes."""
        if not self.use:
            return ()
        return (self.name, INDICATOR.format(self.name)) if self.missing else (self.name,)

    def describe(self) -> dict[str, object]:
        """As in the file, without what is usual."""
        found: dict[str, object] = {"name": self.name}
        if not self.use:
            found["use"] = False
        if self.missing:
            found["missing"] = True
        if self.categories:
            found["categories"] = list(self.categories)
        return found


@dataclass(frozen=True)
class Schema:
    """What is declared of a table.

    Args:
        columns: those of which something is declared.
        label: name of the label's column.
        classes: names of the classes in the order of their numbers; none: labels are the numbers themselves.
    """

    columns: tuple[Column, ...] = ()
    label: str | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        _check_unique(names, "columns of the schema")
        _check_unique([name for column in self.columns for name in column.inputs], "inputs that the schema names")
        _check_texts(self.classes, "classes")
        if len(self.classes) == 1 or any(not text for text in self.classes):
            got = f"{', '.join(map(shown, self.classes))}"
            raise InputError("at least two class names, none of them empty", got, "name all classes")
        if sum(len(text.encode()) for text in self.classes) > MAX_CLASS_BYTES:
            raise InputError(f"class names of at most {MAX_CLASS_BYTES:,} bytes", "more", "shorten them")
        if self.label is not None:
            _check_name(self.label, "the label's name")
            if self.label in names:
                got = f"the label {shown(self.label)} among the columns"
                raise InputError("a schema whose columns are inputs", got, "leave it out of columns")

    @property
    def categories(self) -> dict[int, tuple[str, ...]]:
        """The texts of the inputs whose categories are declared."""
        places = accumulate((len(column.inputs) for column in self.columns), initial=0)
        return {
            place: column.categories for place, column in zip(places, self.columns, strict=False) if column.categories
        }

    @property
    def text(self) -> str:
        """The canonical text: one line of ASCII without spaces, what is usual left out."""
        content: dict[str, Any] = {}
        if self.columns:
            content["columns"] = [column.describe() for column in self.columns]
        if self.label is not None:
            content["label"] = self.label
        if self.classes:
            content["classes"] = list(self.classes)
        return encode_text(content).rstrip()

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the canonical text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def having(self, label: str | None = None, classes: Iterable[str] = ()) -> Schema:
        """The same with a label and class names that were declared elsewhere.

        Raises:
            InputError: the schema says something else.
        """
        classes = tuple(classes)
        for what, own, other in (("label", self.label, label), ("classes", self.classes, classes)):
            if own and other and own != other:
                got = f"{told(own)} in the schema and {told(other)} beside it"
                raise InputError(f"one {what} of the table", got, "leave out one of them")
        return replace(self, label=self.label if label is None else label, classes=self.classes or classes)


@dataclass(frozen=True)
class Table:
    """How a sample was read from a table: kept with it, because it is a part of what a classifier of it is.

    Args:
        schema: with the label.
        names: of all columns of the file and of the schema, sorted: what both sides know beforehand.
        order: of the columns that nothing was declared of.
        buckets: columns without declared categories that have texts in the first rows; only for a hint.
    """

    schema: Schema
    names: tuple[str, ...]
    order: tuple[str, ...] = field(default=(), repr=False)
    buckets: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @property
    def completed(self) -> Schema:
        """A schema that reads another file of the same columns into the same inputs, in whatever order it has them."""
        return replace(self.schema, columns=(*self.schema.columns, *map(Column, self.order)))

    def describe(self) -> dict[str, object]:
        """What a certificate says of it: label, names of the classes, and hash of a schema that lists columns.

        It also names, if they are not too many, the columns that the schema does not list, so that new files may have
        them in any order.
        """
        schema = self.schema
        known = self.order and sum(len(name.encode()) for name in self.order) <= MAX_NAMED_BYTES
        return {
            "label": schema.label,
            "classes": list(schema.classes) if schema.classes else None,
            "schema": schema.hash if schema.columns else None,
            **({"columns": list(self.order)} if known else {}),
        }


def _check_name(name: str, what: str) -> None:
    if not name:
        raise InputError(what, "an empty text", CORRECT)
    _check_texts((name,), what)


def _check_texts(texts: tuple[str, ...], what: str) -> None:
    _check_unique(texts, what)
    for text in texts:
        if len(text) > MAX_TEXT:
            raise InputError(f"{what}: texts of at most {MAX_TEXT} characters", f"{len(text):,}", CORRECT)
        if text != text.strip():
            raise InputError(f"{what}: texts without spaces around", shown(text), "spaces around a cell do not count")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(f"{what}: texts that UTF-8 can hold", ascii(text)[:100], CORRECT)


def _check_unique(texts: Iterable[str], what: str) -> None:
    if (twice := repeated(texts)) is not None:
        raise InputError(f"different {what}", f"{shown(twice)} twice", CORRECT)


def repeated(texts: Iterable[str]) -> str | None:
    """The first text that was there before."""
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            return text
        seen.add(text)
    return None


def shown(text: str) -> str:
    """A text of a table in quotes, shortened."""
    return repr(text if len(text) <= 60 else f"{text[:59]}…")


def told(value: object) -> str:
    """A value of a schema, shortened."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))[:100]
    return repr(value)[:100]
