"""One shard of a data set in a file: ``.npz``, ``.tar`` as WebDataset writes it, or ``.parquet`` with lists of numbers.

In a tar file the members of an example share their name up to the first dot. Its input is the one that ends in ``.npy``
or as an image does, its label the number in the one that ends in ``.cls``; other members are not read. In a Parquet
file each row is an example: a list of numbers in the column ``x`` and a class number in ``y``, or by another of the
names of :mod:`bitcert.data.npz`. A shard is read whole. Files are hostile: nothing is unpickled or written to the disk,
links and sparse members are refused, and sizes are compared with what a file of that length may take.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from bitcert.data.files import check_size, read_declared, reading, refused
from bitcert.data.folder import read_image
from bitcert.data.npz import BROKEN_HEADER, INPUTS, LABELS, npy_header, read_npz
from bitcert.data.parquet import open_file
from bitcert.data.sample import Array

IMAGES = ("png", "jpg", "jpeg", "bmp", "ppm", "webp")
_MOST_DIGITS = 20
_BYTES_A_VALUE = 16  # of a Parquet column: pyarrow holds its chunks and their concatenation at once
_DO = "write it with webdataset, each example with one input (.npy or an image) and its class in .cls"


def read_tar(path: Path, *, need_labels: bool = True) -> tuple[Array, Array | None]:
    """Inputs ``[n, ...]`` and labels ``[n]`` in the order of the examples.

    Raises:
        InputError: naming the file, for anything that is no such file.
    """
    inputs: dict[str, Array] = {}
    labels: dict[str, int] = {}
    with reading(path, tarfile.TarError, EOFError, *BROKEN_HEADER), tarfile.open(path, "r:") as archive:
        for member in archive:
            key, _, end = member.name.rpartition("/")[2].partition(".")
            key, end = member.name[: len(member.name) - len(end)], end.lower()
            if member.isdir() or end not in ("npy", "cls", *IMAGES):
                continue
            stream = archive.extractfile(member) if member.isreg() and not member.issparse() else None
            if stream is None or key in (labels if end == "cls" else inputs):
                got = f"{member.name[:100]!r}, {'another of its kind' if stream else 'a link, device or sparse file'}"
                raise refused(path, "one input and one label, in files, for an example", got, _DO)
            if end == "cls":
                labels[key] = _label(path, member, stream)
                continue
            inputs[key] = _array(path, member.size, stream) if end == "npy" else read_image(path, stream)
            first = next(iter(inputs.values()))
            if inputs[key].shape != first.shape or inputs[key].dtype != first.dtype:
                got = f"{list(inputs[key].shape)} {inputs[key].dtype} in {member.name[:100]!r}"
                raise refused(path, f"inputs like the first, {list(first.shape)} {first.dtype},", got, _DO)
            whole = len(inputs) * first.nbytes
            check_size(path, whole, whole, path.stat().st_size, len(inputs))
    if not inputs or (set(inputs) != set(labels) and (labels or need_labels)):
        raise refused(path, "an input and a label for every example", f"{len(inputs)} and {len(labels)}", _DO)
    return np.stack(list(inputs.values())), np.array([labels[key] for key in inputs]) if labels else None


def _label(path: Path, member: tarfile.TarInfo, stream: IO[bytes]) -> int:
    text = stream.read(_MOST_DIGITS + 1).strip()
    if not text.isdigit() or len(text) >= _MOST_DIGITS:
        raise refused(path, "a class number", f"{text[:_MOST_DIGITS]!r} in {member.name[:100]!r}", _DO)
    return int(text)


def _array(path: Path, size: int, stream: IO[bytes]) -> Array:
    shape, fortran, dtype = npy_header(stream)
    left = size - stream.tell()
    if dtype.kind not in "biuf" or min(shape, default=1) < 1 or prod(shape) * dtype.itemsize != left:
        raise refused(path, "arrays of numbers", f"shape {list(shape)[:8]} of {dtype} in {left} bytes", _DO)
    check_size(path, left, left, path.stat().st_size)
    data, got = read_declared(stream, left)
    if got < left:
        raise refused(path, f"{left} bytes of an array", f"{got} (truncated)")
    return data.view(dtype).reshape(shape, order="F" if fortran else "C")


def read_lists(path: Path, *, need_labels: bool = True) -> tuple[Array, Array | None]:
    """Inputs ``[n, d]`` and labels ``[n]`` of a Parquet file.

    Raises:
        InputError: naming the file, for anything that is no such file, or if pyarrow is not installed.
    """
    arrow, file = open_file(path)
    named = set(file.schema_arrow.names)
    x, y = (next((name for name in names if name in named), None) for names in (INPUTS, LABELS))
    do = "write a list of numbers, as long in every row, in column x and a class number in y"
    if x is None or (need_labels and y is None):
        raise refused(path, "columns x and y", ", ".join(sorted(named))[:200], do)
    groups = [file.metadata.row_group(place) for place in range(file.metadata.num_row_groups)]
    for place in range(file.metadata.num_columns):
        size = _BYTES_A_VALUE * sum(group.column(place).num_values for group in groups)
        check_size(path, size, size, path.stat().st_size)
    with reading(path, arrow.ArrowException, ValueError):
        table = file.read(columns=[name for name in (x, y) if name is not None])
        inputs = _matrix(arrow, table.column(x).combine_chunks())
        labels = None if y is None else _numbers(arrow, table.column(y).combine_chunks())
    if inputs is None or (y is not None and labels is None):
        raise refused(path, "rows of numbers without gaps", f"{table.schema.field(x).type} in {x}"[:200], do)
    return inputs, labels


def _matrix(arrow: Any, column: Any) -> Array | None:
    from pyarrow import compute

    kind = column.type
    lists = arrow.types.is_list(kind) or arrow.types.is_large_list(kind) or arrow.types.is_fixed_size_list(kind)
    values = _numbers(arrow, column.flatten()) if lists and not column.null_count else None
    rows = len(column)
    if values is None or not rows or len(values) % rows:
        return None
    shortest = compute.min(compute.list_value_length(column)).as_py()
    return values.reshape(rows, -1) if shortest * rows == len(values) else None


def _numbers(arrow: Any, column: Any) -> Array | None:
    if column.null_count or not (arrow.types.is_integer(column.type) or arrow.types.is_floating(column.type)):
        return None
    found: Array = column.to_numpy(zero_copy_only=False)
    return found


SHARDS: dict[str, Callable[..., tuple[Array, Array | None]]] = {
    ".npz": read_npz,
    ".tar": read_tar,
    ".parquet": read_lists,
}
"""What reads a shard, by the end of its name."""
