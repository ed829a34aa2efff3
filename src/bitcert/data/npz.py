"""Inputs and labels from an ``.npz`` archive, never through pickle and never beyond a stated size.

The arrays are called ``x`` and ``y``, or by another of the names in :data:`INPUTS` and :data:`LABELS`.

``numpy.load`` trusts the shape in a member's header. Here each member's header is read first and compared with the
member's real length, its compressed length (deflate expands at most 1,032 times) and the rule of
:mod:`bitcert.data.files`; only then is memory taken.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from bitcert.data.files import MAX_DEFLATE_RATIO, channels_first, check_size, read_declared, reading, refused
from bitcert.data.sample import Array
from bitcert.data.schema import MAX_TEXT

_DO = "write it with numpy.savez(path, x=inputs, y=labels)"
INPUTS = ("x", "X", "inputs", "input_ids")
LABELS = ("y", "Y", "labels")
"""Names of the arrays, the usual one first."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN_ZIP = (
    EOFError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
BROKEN_HEADER = (
    ValueError,
    TypeError,
    SyntaxError,
    KeyError,
    OverflowError,
    MemoryError,
    RecursionError,
    tokenize.TokenError,
)


def read_npz(path: Path, *, need_labels: bool = True) -> tuple[Array, Array | None]:
    """``x`` ``[n, ...]`` and ``y`` ``[n]``; images of three axes, or with channels last, become channel-first.

    Args:
        path: the archive, written with ``numpy.savez`` or ``numpy.savez_compressed`` with keys ``x`` and ``y``.
        need_labels: refuse an archive without ``y``; otherwise ``None`` is returned in its place.

    Raises:
        InputError: naming the file, for anything that is not such an archive, for arrays of Python objects, and for
            members whose size is beyond the bound or not what their header declares.
    """
    with reading(path, *_BROKEN_ZIP), zipfile.ZipFile(path) as archive:
        inputs, known = (_found(archive, names) for names in (INPUTS, LABELS))
        if inputs is None or (need_labels and known is None):
            got = ", ".join(sorted(name.removesuffix(".npy") for name in archive.namelist())[:8]) or "nothing"
            raise refused(path, "arrays 'x' and 'y'", got[:200], _DO)
        labels = None if known is None else _read_member(archive, known, path)
        return channels_first(_read_member(archive, inputs, path)), labels


def read_npz_inputs(path: Path) -> Array:
    """``x`` alone, as :func:`read_npz` gives it; labels in the archive are not read.

    Raises:
        InputError: as :func:`read_npz`.
    """
    with reading(path, *_BROKEN_ZIP), zipfile.ZipFile(path) as archive:
        name = _found(archive, INPUTS)
        if name is None:
            raise refused(path, "an array 'x'", "none", _DO)
        return channels_first(_read_member(archive, name, path))


def _found(archive: zipfile.ZipFile, names: tuple[str, ...]) -> str | None:
    """The first of these arrays that the archive holds."""
    held = set(archive.namelist())
    return next((f"{name}.npy" for name in names if f"{name}.npy" in held), None)


def read_npz_columns(path: Path) -> tuple[str, ...]:
    """The names of the inputs in an array ``columns`` of texts; none where there is no such array.

    Raises:
        InputError: as :func:`read_npz`.
    """
    with reading(path, *_BROKEN_ZIP, *BROKEN_HEADER), zipfile.ZipFile(path) as archive:
        if "columns.npy" not in archive.namelist():
            return ()
        with archive.open("columns.npy") as stream:
            shape, _, dtype = npy_header(stream)
        if dtype.kind != "U" or len(shape) != 1 or dtype.itemsize > 4 * MAX_TEXT:
            return ()
        return tuple(map(str, _read_member(archive, "columns.npy", path, kinds="U").tolist()))


def _read_member(archive: zipfile.ZipFile, name: str, path: Path, kinds: str = "biuf") -> Array:
    info = archive.getinfo(name)
    if info.compress_type not in _METHODS:
        raise refused(
            path, f"{name} stored or deflated", f"zip method {info.compress_type}", "write it with numpy.savez"
        )
    check_size(path, info.file_size, info.compress_size * MAX_DEFLATE_RATIO, path.stat().st_size)
    with archive.open(info) as stream:
        shape, fortran, dtype = _read_header(stream, name, path, kinds)
        size = prod(shape) * dtype.itemsize
        if size != info.file_size - stream.tell():
            got = f"{size} for shape {list(shape)[:8]} of {dtype} where it holds {info.file_size - stream.tell()}"
            raise refused(path, f"as many bytes in {name} as its header declares", got)
        check_size(path, size, size, path.stat().st_size, shape[0] if shape else 1)
        data, got_bytes = read_declared(stream, size)
    if got_bytes < size:
        raise refused(path, f"{size} bytes of data in {name}", f"{got_bytes} (truncated)")
    return data.view(dtype).reshape(shape, order="F" if fortran else "C")


def npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, order and type that an array states; raises whatever numpy does for what is none."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the npy format")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    return shape, fortran, dtype


def _read_header(
    stream: IO[bytes], name: str, path: Path, kinds: str
) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    try:
        shape, fortran, dtype = npy_header(stream)
    except BROKEN_HEADER as error:
        reason = " ".join(str(error).split())[:120]
        raise refused(path, f"a plain numpy array in {name}", reason, "write it with numpy.savez") from error
    if dtype.hasobject or dtype.kind not in kinds:
        do = "store numbers; object arrays would need pickle, which is never read"
        raise refused(path, f"numbers in {name}", f"dtype {dtype}", do)
    if any(length < 0 for length in shape):
        raise refused(path, f"lengths of at least 0 in {name}", f"shape {list(shape)[:8]}")
    return shape, fortran, dtype
