"""Data larger than memory: arrays on the disk that are read where they are used, through a memory map.

Two kinds of folder: ``x.npy`` and ``y.npy`` (mapped as they are), or shards of one data set, all ``*.npz``, all
``*.tar`` or all ``*.parquet`` (:mod:`bitcert.data.shard_files`), in the order of their names. Shards are read one at
a time into an unnamed file of the system's temporary folder (``TMPDIR``), which takes as much disk as the inputs, and
that file is mapped. How data are divided into shards changes neither the sample nor its hash.

Pages that were read are given back after each batch (:func:`bitcert.data.sample.release`), so memory does not grow with
the data. NOT noticed: a file that is changed while it is mapped.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from bitcert.data.files import reading, refused
from bitcert.data.npz import BROKEN_HEADER, npy_header
from bitcert.data.sample import Array
from bitcert.data.shard_files import SHARDS

INPUTS, LABELS = "x.npy", "y.npy"
_SAVE = "write it with numpy.save"


def shards_of(folder: Path) -> list[Path]:
    """The files of a folder that holds nothing but shards of one kind, in the order of their names; else none."""
    found = sorted(each for each in folder.iterdir() if not each.name.startswith("."))
    kinds = {each.suffix if each.is_file() else "" for each in found}
    return found if len(kinds) == 1 and kinds <= set(SHARDS) else []


def read_mapped(folder: Path, need_labels: bool) -> tuple[Array, Array | None]:
    """``x.npy`` ``[n, ...]``, mapped, and ``y.npy`` ``[n]``.

    Raises:
        InputError: naming the file, for anything that is no such array.
    """
    inputs = _map_array(folder / INPUTS)
    if inputs.dtype not in (np.dtype(np.uint8), np.dtype(np.float32)):
        do = "convert it: other types would need a copy in memory"
        raise refused(folder / INPUTS, "uint8 or float32", f"dtype {inputs.dtype}", do)
    if inputs.ndim == 4 and inputs.shape[3] in (1, 3) and inputs.shape[1] not in (1, 3):
        do = "move the channels to the second axis: that would need a copy in memory"
        raise refused(folder / INPUTS, "images [n, channels, height, width]", f"shape {list(inputs.shape)}", do)
    inputs = inputs[:, None] if inputs.ndim == 3 else inputs
    path = folder / LABELS
    return inputs, None if not path.exists() and not need_labels else np.array(_map_array(path))


def _map_array(path: Path) -> Array:
    with reading(path, *BROKEN_HEADER), open(path, "rb") as file:
        shape, fortran, dtype = npy_header(file)
        size, offset = prod(shape) * dtype.itemsize, file.tell()
        if dtype.hasobject or dtype.kind not in "biuf" or fortran or not shape:
            raise refused(path, "rows of numbers in C order", f"shape {list(shape)[:8]} of {dtype}", _SAVE)
        if min(shape) < 1 or size != path.stat().st_size - offset:
            got = f"shape {list(shape)[:8]} of {dtype} in {path.stat().st_size - offset} bytes"
            raise refused(path, "as many bytes as its header declares", got, _SAVE)
        return np.memmap(file, dtype, "r", offset, shape)


def read_shards(files: Sequence[Path], need_labels: bool) -> tuple[Array, Array | None]:
    """Inputs ``[n, ...]`` of all shards, mapped from a temporary file, and their labels ``[n]``.

    Raises:
        InputError: naming the shard, for one that cannot be read or whose inputs have another shape or type.
    """
    labels: list[Array] = []
    rows, first = 0, None
    with tempfile.TemporaryFile(prefix="bitcert-") as spool:
        for path in files:
            inputs, own = SHARDS[path.suffix](path, need_labels=need_labels)
            inputs = inputs.astype(np.float32) if inputs.dtype == np.float64 else inputs
            kind = (inputs.shape[1:], inputs.dtype)
            first = first or kind
            if kind != first or inputs.ndim < 2:
                got = f"{list(inputs.shape[1:])} {inputs.dtype}"
                expected = f"inputs like those of {files[0].name}, {list(first[0])} {first[1]},"
                raise refused(path, expected, got, "bring all shards to one shape and type")
            if own is not None and own.shape != inputs.shape[:1]:
                raise refused(path, f"{len(inputs)} labels", f"shape {list(own.shape)}", "write a label for each input")
            labels += [] if own is None else [own]
            rows += len(inputs)
            np.ascontiguousarray(inputs).tofile(spool)
        spool.flush()
        assert first is not None
        mapped = np.memmap(spool, first[1], "r", 0, (rows, *first[0])) if rows else np.empty((0, 1), np.uint8)
    if labels and len(labels) < len(files):
        raise refused(files[0].parent, "labels in all shards or in none", f"{len(labels)} of {len(files)}")
    return mapped, np.concatenate(labels) if labels else None
