"""Tables in CSV files (RFC 4180): UTF-8, commas, one line of column names first, fields in double quotes where needed.

The file is read line by line by the standard library's ``csv``, and never more than :data:`MAX_ROW` characters for one
row. A byte order mark, either kind of line end and line ends inside quotes are understood; rows of another length than
the header, a quote out of place, repeated column names and whatever is no UTF-8 text are refused with their place.

Not guaranteed: that commas separate the fields of a file that has only one column.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from bitcert.data.cells import read_cells
from bitcert.data.files import refused, unreadable
from bitcert.data.table import Block, Source, block_rows, check_header
from bitcert.errors import InputError

MAX_ROW = 1 << 24
"""Characters of one row, line ends inside quotes included."""

_OTHERS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_DO = "save the table as CSV (UTF-8) with commas between the fields"


class _Lines:
    """The lines of a text file, of which one row may take :data:`MAX_ROW` characters."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file, self._path, self._taken = file, path, 0
        self.row = 0

    def __iter__(self) -> Iterator[str]:
        read = self._file.readline
        while line := read(MAX_ROW + 1):
            self._taken += len(line)
            if self._taken > MAX_ROW:
                got = f"more in {_place(self.row)}"
                raise refused(self._path, f"rows of at most {MAX_ROW:,} characters", got, _DO)
            if "\0" in line:
                raise refused(self._path, "a text", f"a NUL character in {_place(self.row)}", _DO)
            yield line

    def next_row(self) -> None:
        """A row has ended."""
        self.row += 1
        self._taken = 0


class _Rows(Block):
    def __init__(self, first: int, rows: list[list[str]]) -> None:
        self.first, self.rows = first, len(rows)
        self._columns = list(zip(*rows, strict=True))

    def numbers(self, column: int, codes: Mapping[str, int] | None) -> NDArray[np.float32]:
        return read_cells(self._columns[column], codes)

    def texts(self, column: int) -> Sequence[str]:
        return [text.strip() for text in self._columns[column]]


def open_csv(path: Path) -> Source:
    """The header of a CSV file, and its rows as they are asked for.

    Raises:
        InputError: there is no header, or it cannot be one; while reading, for a row that is none.
    """
    rows = _rows(path)
    header = next(rows, None)
    if header is None:
        raise refused(path, "a line with the names of the columns", "an empty file", _DO)
    names = check_header(path, header)
    if len(names) == 1:
        for sign, name in _OTHERS.items():
            if sign in names[0]:
                raise refused(path, "names of columns with commas between", f"{name} between", _DO)
    return Source(path, names, _blocks(path, rows, len(names)))


def _rows(path: Path) -> Iterator[list[str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = _Lines(file, path)
            for row in csv.reader(lines, strict=True):
                lines.next_row()
                yield row
    except csv.Error as error:
        raise refused(path, f"a row of a CSV file in {_place(lines.row)}", str(error), _DO) from None
    except UnicodeDecodeError:
        got = f"bytes that are none after {_place(lines.row)}"
        raise refused(path, "UTF-8 text", got, _DO) from None
    except OSError as error:
        raise unreadable(path, error) from error


def _blocks(path: Path, rows: Iterator[list[str]], width: int) -> Iterator[Block]:
    size, number, first = block_rows(width), 0, 1
    kept: list[list[str]] = []
    for row in rows:
        if not row:
            continue  # an empty line
        number += 1
        if len(row) != width:
            raise _ragged(path, number, len(row), width)
        kept.append(row)
        if len(kept) == size:
            yield _Rows(first, kept)
            first, kept = number + 1, []
    if kept:
        yield _Rows(first, kept)


def _ragged(path: Path, number: int, got: int, width: int) -> InputError:
    do = "put fields with commas in double quotes, and write empty fields too"
    return refused(path, f"{width:,} fields in row {number:,}, as in the header", f"{got:,}", do)


def _place(row: int) -> str:
    return f"row {row:,}" if row else "the header"
