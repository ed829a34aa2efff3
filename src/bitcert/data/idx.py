"""The IDX format of the MNIST family: one array of unsigned bytes after a short header, raw or gzipped.

Format (Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits"): two zero bytes, the type (8 for
unsigned bytes, the only one read here), the number of axes, one big-endian 32-bit length for each axis, the data.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from bitcert.data.files import MAX_DEFLATE_RATIO, check_size, read_declared, reading, refused
from bitcert.data.sample import Array
from bitcert.errors import InputError

UNSIGNED_BYTE = 8
MAX_AXES = 4
PREFIXES = {"train": "train", "test": "t10k"}


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of one IDX file, raw or gzipped (told by its content, not its name).

    Args:
        path: the file.

    Returns:
        uint8 array of the declared shape, one to four axes.

    Raises:
        InputError: naming the file, for a wrong magic, another type, a truncated file, one with bytes left over, a
            declared size the file cannot hold, and anything unreadable.
    """
    with reading(path, EOFError, MemoryError, zlib.error), open(path, "rb") as raw:
        available = os.path.getsize(path)
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not zipped:
            return _read_stream(raw, path, available, available)
        with gzip.GzipFile(fileobj=raw) as stream:
            return _read_stream(cast(IO[bytes], stream), path, available * MAX_DEFLATE_RATIO, available)


def _read_stream(stream: IO[bytes], path: Path, available_bytes: int, file_bytes: int) -> NDArray[np.uint8]:
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise refused(path, "an IDX header (two zero bytes, type, axes)", repr(head), "pass an IDX file")
    if head[2] != UNSIGNED_BYTE or not 1 <= head[3] <= MAX_AXES:
        got = f"type {head[2]} with {head[3]} axes"
        raise refused(path, f"unsigned bytes (type 8) with 1 to {MAX_AXES} axes", got, "write it as unsigned bytes")
    lengths = stream.read(4 * head[3])
    if len(lengths) < 4 * head[3]:
        raise refused(path, "a complete IDX header", "a truncated one")
    shape = struct.unpack(f">{head[3]}I", lengths)
    check_size(path, prod(shape), available_bytes, file_bytes, shape[0])
    data, got_bytes = read_declared(stream, prod(shape))
    if got_bytes < len(data):
        raise refused(path, f"{len(data)} bytes of data after the header", f"{got_bytes} (truncated)")
    if stream.read(1):
        raise refused(path, f"{len(data)} bytes of data after the header", "more bytes than that")
    return data.reshape(shape)


def read_idx_pair(images: Path, labels: Path) -> tuple[Array, Array]:
    """Images ``[n, 1, height, width]`` (or ``[n, channels, height, width]``) and labels ``[n]`` of two IDX files.

    Raises:
        InputError: as :func:`read_idx`, and when a file has the wrong number of axes or the counts differ.
    """
    pixels, classes = read_idx(images), read_idx(labels)
    if pixels.ndim < 3:
        raise refused(images, "images (3 or 4 axes)", f"an array of {pixels.ndim} axes", "pass the images file")
    if classes.ndim != 1:
        raise refused(labels, "labels (1 axis)", f"an array of {classes.ndim} axes", "pair it with the labels file")
    if len(pixels) != len(classes):
        got = f"{len(pixels)} images in {images.name} and {len(classes)} labels"
        raise refused(labels, "one label for every image", got, "pair files of the same split")
    return (pixels[:, None] if pixels.ndim == 3 else pixels), classes


def find_idx_pair(folder: Path, split: str) -> tuple[Path, Path] | None:
    """The images and labels file of ``split`` (``train`` or ``test``) in ``folder``, or ``None`` without images.

    Raises:
        InputError: when the images are there and the labels are not.
    """
    for separator in ("-", "."):
        for suffix in ("", ".gz"):
            images = folder / f"{PREFIXES[split]}-images{separator}idx3-ubyte{suffix}"
            if images.is_file():
                return images, labels_beside(images)
    return None


def labels_beside(images: Path) -> Path:
    """The labels file that the usual naming pairs with an images file (``images`` and ``idx3`` replaced).

    Raises:
        InputError: when the name does not say or no such file exists.
    """
    if "images" not in images.name:
        expected = f"an IDX images file with 'images' in its name at {images}"
        raise InputError(
            expected, repr(images.name), "rename the pair as train-images-idx3-ubyte, train-labels-idx1-ubyte"
        )
    plain = images.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1").removesuffix(".gz")
    for name in (plain, f"{plain}.gz"):
        if (images.parent / name).is_file():
            return images.parent / name
    raise InputError(f"the labels file {plain} or {plain}.gz beside {images}", "neither", "put it there")
