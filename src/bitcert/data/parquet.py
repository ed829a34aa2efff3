"""Tables in Parquet files, read by pyarrow (the extra ``tables``), which is imported when such a file is opened.

A cell is read as its text in a CSV file would be (:mod:`bitcert.data.cells`): a null is missing; integers, floats and
decimals are numbers; true and false, dates and times are texts, as pyarrow writes them. Columns of bytes, lists or
records are refused.

Not guaranteed: that pyarrow itself takes no more memory for a page than the file says; what the file says is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcert.data.cells import CellProblem, as_float32, read_cell, read_cells
from bitcert.data.files import check_size, reading, refused
from bitcert.data.table import Block, Source, block_rows, check_header
from bitcert.errors import InputError

MAGIC = b"PAR1"
_DO = "write the file again, or save the table as CSV"


def open_file(path: Path, **options: Any) -> tuple[Any, Any]:
    """The module pyarrow and the open file.

    Raises:
        InputError: pyarrow is not installed, or the file is none it can read.
    """
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        do = "install it with pip install 'bitcert[tables]', or save the table as CSV"
        raise InputError(f"pyarrow, which reads {path}", "none installed", do) from None
    _check_magic(path)
    with reading(path, arrow.ArrowException, ValueError):
        return arrow, parquet.ParquetFile(path, **options)


def open_parquet(path: Path) -> Source:
    """The names of the columns of a Parquet file, and its rows as they are asked for.

    Raises:
        InputError: pyarrow is not installed, or the file is none it can read, too large, or has columns of other types.
    """
    arrow, file = open_file(path)
    texts = [field.name for field in file.schema_arrow if _is_text(arrow.types, field.type)]
    # texts as numbers of a dictionary: a long text that is repeated is kept once
    _, file = open_file(path, read_dictionary=texts)
    names = check_header(path, file.schema_arrow.names)
    for field in file.schema_arrow:
        _check_type(path, arrow.types, field)
    _check_declared(path, file.metadata, len(names))
    return Source(path, names, _blocks(path, arrow, file, block_rows(len(names))))


def _check_magic(path: Path) -> None:
    with reading(path), open(path, "rb") as file:
        start = file.read(len(MAGIC))
        size = file.seek(0, 2)
        file.seek(max(0, size - len(MAGIC)))
        end = file.read()
    if size < 3 * len(MAGIC) or start != MAGIC or end != MAGIC:
        got = f"a file of {size:,} bytes that starts with {start!r} and ends with {end!r}"
        raise refused(path, "a Parquet file", got, _DO)


def _is_text(types: Any, kind: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _check_type(path: Path, types: Any, field: Any) -> None:
    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind)
    if not (numbers or _is_text(types, kind) or types.is_temporal(kind) or types.is_null(kind)):
        do = "leave that column out of the file, or turn it into numbers or texts"
        raise refused(path, f"numbers or texts in column {field.name[:60]!r}", f"type {str(kind)[:60]}", do)


def _check_declared(path: Path, metadata: Any, width: int) -> None:
    """Compare what the file says of its size with what a file of its length may take."""
    rows, file_bytes = metadata.num_rows, path.stat().st_size
    if rows < 0:
        raise refused(path, "a number of rows of at least 0", f"{rows}", _DO)
    check_size(path, 4 * width * rows, 4 * width * rows, file_bytes, rows)
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            size = metadata.row_group(group).column(column).total_uncompressed_size
            check_size(path, size, size, file_bytes)


def _blocks(path: Path, arrow: Any, file: Any, size: int) -> Iterator[Block]:
    first = 1
    with reading(path, arrow.ArrowException, ValueError):
        for batch in file.iter_batches(batch_size=size):
            if batch.num_rows:
                yield _Batch(first, batch, arrow)
                first += batch.num_rows


class _Batch(Block):
    def __init__(self, first: int, batch: Any, arrow: Any) -> None:
        self.first, self.rows = first, batch.num_rows
        self._batch, self._arrow = batch, arrow

    def numbers(self, column: int, codes: Mapping[str, int] | None) -> NDArray[np.float32]:
        array, types = self._batch.column(column), self._arrow.types
        if types.is_dictionary(array.type):
            return self._of_dictionary(array, codes)
        if codes is None and (types.is_integer(array.type) or types.is_floating(array.type)):
            values = array.cast(self._arrow.float64(), safe=False).to_numpy(zero_copy_only=False)
            return as_float32(values, values)
        return read_cells(self._texts(array), codes)

    def _of_dictionary(self, array: Any, codes: Mapping[str, int] | None) -> NDArray[np.float32]:
        """Each text of the dictionary is read once; one more entry at its end stands for null."""
        texts = [*self._texts(array.dictionary), ""]
        known = np.array([read_cell(text, codes) for text in texts], np.float64)
        places = array.indices.fill_null(len(texts) - 1) if array.null_count else array.indices
        at = places.to_numpy(zero_copy_only=False)
        try:
            return as_float32(known[at], at)
        except CellProblem as problem:
            raise CellProblem(problem.place, texts[at[problem.place]]) from None

    def texts(self, column: int) -> Sequence[str]:
        array = self._batch.column(column)
        if self._arrow.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        return [text.strip() for text in self._texts(array)]

    def _texts(self, array: Any) -> list[str]:
        return ["" if text is None else text for text in array.cast(self._arrow.string()).to_pylist()]
