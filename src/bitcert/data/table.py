"""From the cells of a table to a sample: which column is the label, which are inputs, and in which order.

Read block by block, so that only the numbers are kept. The text of a cell becomes a number by
:mod:`bitcert.data.cells`; what is declared beforehand stands in the schema (:mod:`bitcert.data.schema`). Labels are
integers from 0, or the names of declared classes. Nothing that this reader does with one cell depends on another one.

Not guaranteed: that label and schema were chosen before the data were seen; a certificate says so and charges for them.
"""

from __future__ import annotations

import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitcert.data.cells import MISSING_TEXTS, CellProblem, is_bucketed, with_missing
from bitcert.data.files import check_size, refused
from bitcert.data.sample import MAX_CLASSES, Array, Role, Sample
from bitcert.data.schema import MAX_TEXT, Column, Schema, Table, repeated, shown
from bitcert.errors import InputError, listed

BLOCK_CELLS = 1 << 15
"""Cells that are read at a time, in at least :data:`BLOCK_ROWS` rows."""

BLOCK_ROWS = 8

FEW = 8
"""Most names that an error lists."""

MAX_DISTINCT = 1_000
"""Different labels that are counted for an error."""

NO_LABELS = np.empty(0, np.int64)

_INTEGER = re.compile(r"([0-9]{1,18})(?:\.0*)?")


class Block(ABC):
    """Some rows of a table.

    Attributes:
        first: number of the first of them, from 1.
        rows: how many they are.
    """

    first: int
    rows: int

    @abstractmethod
    def numbers(self, column: int, codes: Mapping[str, int] | None) -> NDArray[np.float32]:
        """The numbers of a column ``[rows]``, NaN where a cell is missing.

        Raises:
            CellProblem: for a number that no float32 is.
        """

    @abstractmethod
    def texts(self, column: int) -> Sequence[str]:
        """The cells of a column, without spaces around."""


@dataclass(frozen=True)
class Source:
    """An open table: the names of its columns, as the file has them, and its rows."""

    path: Path
    header: tuple[str, ...]
    blocks: Iterator[Block]


def read_table(source: Source, schema: Schema, role: Role, num_classes: int | None) -> Sample:
    """The sample of an open table.

    Args:
        source: header and rows.
        schema: with the label's name; for ``Role.UNLABELLED`` the table need not have that column.
        role: what the sample is for.
        num_classes: as stated elsewhere, or ``None``.

    Raises:
        InputError: naming file, column and row, for whatever cannot be read by the rule.
    """
    buckets: list[str] = []
    layout = _layout(source, schema, role)
    classes = _num_classes(schema, num_classes, source.path)
    labels = None if layout.label is None else _Labels(source.path, schema, classes is not None)
    inputs = _read(source, layout, labels, buckets)
    found = None if labels is None else labels.found()
    # Only the last part of a path: a certificate is shown to strangers.
    name, table = source.path.name, layout.table(schema, source.header)
    table = None if table is None else replace(table, buckets=tuple(buckets))
    return Sample.from_arrays(inputs, found, role, name, classes, columns=layout.inputs, table=table)


def block_rows(width: int) -> int:
    """Rows of a table of ``width`` columns that are read at a time."""
    return max(BLOCK_ROWS, BLOCK_CELLS // width)


def check_header(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The names of a table's columns, without spaces around.

    Raises:
        InputError: one is missing, too long or there twice.
    """
    stripped = tuple(name.strip() for name in names)
    for place, name in enumerate(stripped, start=1):
        if not name:
            do = "name it; if it is the index of a pandas table, write the file with index=False"
            raise refused(path, "a name of every column", f"none of column {place:,}", do)
        if len(name) > MAX_TEXT:
            raise refused(path, f"names of at most {MAX_TEXT:,} characters", shown(name), "shorten it")
    if (twice := repeated(stripped)) is not None:
        raise refused(path, "different names of columns", f"{shown(twice)} twice", "rename one of them")
    return stripped


def peek_table(source: Source, schema: Schema, num_classes: int | None, examples: int) -> Sample:
    """The first examples in the role ``UNLABELLED``, with the number of classes as it is declared; no label is read.

    Raises:
        InputError: as :func:`read_table`, and when the label's column is not named.
    """
    if schema.label is None:
        got = "none named"
        raise refused(source.path, "the name of the label's column", got, f"name it: {_few(source.header)}")
    layout = _layout(source, schema, Role.UNLABELLED)
    inputs = _read(replace(source, blocks=islice(source.blocks, 1)), layout, None, [])[:examples]
    classes = _num_classes(schema, num_classes, source.path)
    # a number that is not declared is coded in the message; any number stands for it until the labels are read
    number, name = MAX_CLASSES if classes is None else classes, source.path.name
    table = layout.table(schema, source.header)
    return Sample(inputs, NO_LABELS, number, Role.UNLABELLED, name, classes is None, layout.inputs, table)


@dataclass(frozen=True)
class _Layout:
    """Which columns of a file are inputs, in order, and which one is the label."""

    columns: tuple[tuple[int, Column], ...]
    label: int | None

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for _, column in self.columns for name in column.inputs)

    def table(self, schema: Schema, header: tuple[str, ...]) -> Table | None:
        if schema.label is None:
            return None
        listed = {column.name for column in schema.columns}
        names = sorted({*header, *listed, schema.label})
        return Table(schema, tuple(names), tuple(c.name for _, c in self.columns if c.name not in listed))


def _layout(source: Source, schema: Schema, role: Role) -> _Layout:
    path, header = source.path, source.header
    places = {name: place for place, name in enumerate(header)}
    label = None if schema.label is None else places.get(schema.label)
    if label is None and role is not Role.UNLABELLED:
        got = "none named" if schema.label is None else shown(schema.label)
        raise refused(path, "the name of the label's column", got, f"name it with --label: {_few(header)}")
    absent = [column.name for column in schema.columns if column.use and column.name not in places]
    if absent:
        raise refused(
            path, f"the columns of the schema: {_few(absent)}", f"columns {_few(header)}", "correct one of both"
        )
    listed = {column.name for column in schema.columns}
    others = [name for name in header if name not in listed and name != schema.label]
    used = [column for column in (*schema.columns, *map(Column, others)) if column.use]
    if not used:
        raise refused(path, "at least one column of inputs", "none", "use a table with more columns")
    if (twice := repeated(name for column in used for name in column.inputs)) is not None:
        raise refused(path, "different names of inputs", f"{shown(twice)} twice", "rename that column")
    return _Layout(tuple((places[column.name], column) for column in used), label)


def _num_classes(schema: Schema, stated: int | None, path: Path) -> int | None:
    declared = len(schema.classes) or None
    if declared is not None and stated not in (None, declared):
        raise refused(path, f"{declared} classes, as they are named", f"{stated} stated", "leave out the number")
    return stated if declared is None else declared


def _repeats(cells: Sequence[str]) -> bool:
    """Whether a column has texts, and texts that come again: not those of names, identifiers or dates."""
    texts = [cell.strip() for cell in cells if is_bucketed(cell)]
    return bool(texts) and 2 * len(set(texts)) <= len(texts)


def _read(source: Source, layout: _Layout, labels: _Labels | None, buckets: list[str]) -> Array:
    width, rows, buffer = len(layout.inputs), 0, bytearray()
    file_bytes = source.path.stat().st_size
    for block in source.blocks:
        rows += block.rows
        size = 4 * width * rows
        check_size(source.path, size, size, file_bytes, rows)
        if labels is not None and layout.label is not None:
            labels.add(block, layout.label)
            if labels.refused:
                continue
        values = np.empty((block.rows, width), np.float32)
        at = 0
        for place, column in layout.columns:
            found = with_missing(_numbers(block, place, column, source.path), column.missing)
            values[:, at : at + found.shape[1]] = found
            at += found.shape[1]
        buffer += values.data
        if block.first == 1:
            free = [(place, column) for place, column in layout.columns if column.codes is None]
            buckets += [column.name for place, column in free if _repeats(block.texts(place))]
    if rows == 0:
        raise refused(source.path, "at least one row below the names of the columns", "none", "use a table with rows")
    return np.frombuffer(buffer, np.float32).reshape(-1, width)


def _numbers(block: Block, place: int, column: Column, path: Path) -> NDArray[np.float32]:
    try:
        return block.numbers(place, column.codes)
    except CellProblem as problem:
        where = f"row {block.first + problem.place:,}, column {shown(column.name)}"
        raise refused(path, f"a number that float32 can hold in {where}", shown(problem.text), "correct it") from None


class _Labels:
    """The class numbers of all rows; what cannot be one is remembered for one sentence at the end."""

    def __init__(self, path: Path, schema: Schema, fixed: bool) -> None:
        self._path, self._label, self._fixed = path, shown(schema.label or ""), fixed
        self._codes = {text: code for code, text in enumerate(schema.classes)}
        self._numbers = bytearray()
        self._distinct: set[str] = set()
        self.refused = False

    def add(self, block: Block, place: int) -> None:
        """Read those of a block."""
        texts = block.texts(place)
        known = {text: self._number(text) for text in set(texts)}
        for text, number in known.items():
            if number is None:
                row = block.first + texts.index(text)
                raise self._wrong(text, f"row {row:,}, column {self._label}")
        self._numbers += np.array([known[text] for text in texts], np.int64).data

    def _number(self, text: str) -> int | None:
        """The class number of a text, ``None`` for what is wrong in any case, 0 for what needs declared classes."""
        if self._codes:
            return self._codes.get(text)
        if text.lower() in MISSING_TEXTS:
            return None
        if len(self._distinct) <= MAX_DISTINCT:
            self._distinct.add(text)
        match = _INTEGER.fullmatch(text)
        self.refused |= match is None
        return int(match[1]) if match is not None else 0

    def _wrong(self, text: str, where: str) -> InputError:
        if text.lower() in MISSING_TEXTS:
            do = "drop the rows without a label, or name another column"
            return refused(self._path, f"a label in {where}", shown(text), do)
        return refused(self._path, f"one of the classes {_few(self._codes)} in {where}", shown(text), "name them all")

    def found(self) -> NDArray[np.int64]:
        """All of them.

        Raises:
            InputError: labels are no numbers from 0, and no classes were declared.
        """
        numbers = np.frombuffer(self._numbers, np.int64)
        if self.refused or (not self._codes and not self._fixed and numbers.min() > 0):
            raise self._undeclared()
        return numbers

    def _undeclared(self) -> InputError:
        expected = f"integers from 0 in the label's column {self._label}, or the names of its classes"
        names, many = sorted(self._distinct), len(self._distinct) > MAX_DISTINCT
        count = f"more than {MAX_DISTINCT:,}" if many else f"{len(names):,}"
        if len(names) > FEW:
            do = "name a column of classes, or list their names as classes in a schema"
            return refused(self._path, expected, f"{count} different texts ({_few(names)})", do)
        if any("," in name for name in names):
            return refused(self._path, expected, _few(names), "list these names as classes in a schema")
        do = f"name them in the order of their numbers, e.g. --class-names {shlex.quote(','.join(names))}"
        return refused(self._path, expected, _few(names), do)


def _few(names: Iterable[str]) -> str:
    return listed([shown(name) for name in names], FEW)
