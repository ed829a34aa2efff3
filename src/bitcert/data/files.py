"""What every reader of data files shares: the size bound and the sentence for a file that cannot be read.

Data files are treated as hostile: no reader allocates what a header declares before the declared size has been
compared with what a file of that length can hold, and with what it may: a small file may fill half a gigabyte, any file
64 times its own size, or whatever the environment variable ``BITCERT_MAX_DATA_BYTES`` says. Not guaranteed: that the
content is what its name says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from bitcert.data.sample import Array
from bitcert.errors import BitcertError, InputError

LIMIT_VARIABLE = "BITCERT_MAX_DATA_BYTES"
"""Environment variable with the most bytes that a reader may allocate for one array, instead of the rule below."""

FREE_BYTES = 1 << 29
MAX_EXPANSION = 64
"""An array may take :data:`FREE_BYTES`, or so many times the size of the file it is read from: pixels of images shrink
to a quarter, sparse features to a thirtieth; what shrinks more is small, or a bomb."""

BYTES_AN_EXAMPLE = 64
"""What a sample keeps for each example beside its input: the label, a hash, and copies of them while it is checked."""

MAX_BYTES = 16 << 30
"""Most bytes for data that come from no file."""

MAX_DEFLATE_RATIO = 1032
"""Deflate cannot expand one byte to more than this many, so a larger declared size is a lie."""


def refused(path: Path, expected: str, got: str, do: str = "download or write the file again") -> InputError:
    """The error of a file that cannot be used; the file is named."""
    return InputError(f"{expected} in {path}", got, do)


def unreadable(path: Path, error: BaseException) -> InputError:
    """The error of a file that the system or a decompressor could not read."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return InputError(
        f"a readable file at {path}", " ".join(reason.split()), "check the path, or download or write it again"
    )


@contextmanager
def reading(path: Path, *broken: type[Exception]) -> Iterator[None]:
    """Read the file at ``path``; what the system or a decoder (by one of the ``broken`` errors) says is one sentence.

    Raises:
        InputError: the file is missing, unreadable or damaged.
    """
    known: tuple[type[Exception], ...] = (OSError, *broken)
    try:
        yield
    except BitcertError:
        raise
    except known as error:
        raise unreadable(path, error) from error


def read_declared(stream: IO[bytes], size: int) -> tuple[NDArray[np.uint8], int]:
    """``size`` bytes, and how many of them are there.

    Read in pieces of 1 MiB: a truncated file that declares gigabytes touches only the memory it really fills.
    """
    data, position = np.empty(size, np.uint8), 0
    while position < size and (piece := stream.read(min(1 << 20, size - position))):
        data[position : position + len(piece)] = np.frombuffer(piece, np.uint8)
        position += len(piece)
    return data, position


def byte_limit(usual: int) -> int:
    """Bytes that may be allocated: what the environment variable says, else ``usual``.

    Raises:
        InputError: the variable is no whole number.
    """
    stated = os.environ.get(LIMIT_VARIABLE)
    if not stated:
        return usual
    try:
        return int(stated)
    except ValueError:
        got = repr(stated[:100])
        raise InputError(f"a whole number of bytes in {LIMIT_VARIABLE}", got, "set e.g. 32000000000") from None


def check_size(path: Path, declared_bytes: int, available_bytes: int, file_bytes: int, num_examples: int = 0) -> None:
    """Refuse a declared array size that is beyond the rule or that the file cannot hold.

    Args:
        path: for the error.
        declared_bytes: what a header says.
        available_bytes: the most that the content of the file can unfold to.
        file_bytes: size of the file, or of all files of a folder.
        num_examples: first length of the array, if known: many tiny examples take more than their bytes.

    Raises:
        InputError: naming the file and both sizes.
    """
    if declared_bytes > available_bytes:
        got = f"{declared_bytes} declared where the file holds at most {available_bytes}"
        raise refused(path, "as many bytes as the header declares", got)
    allowed = byte_limit(max(FREE_BYTES, MAX_EXPANSION * file_bytes))
    needed = max(declared_bytes, BYTES_AN_EXAMPLE * num_examples)
    if needed > allowed:
        do = f"if you trust the file, set {LIMIT_VARIABLE}={needed}"
        many = "" if needed == declared_bytes else f" ({num_examples} examples)"
        raise refused(path, f"arrays of at most {allowed} bytes", f"a declared size of {needed} bytes{many}", do)


def channels_first(inputs: Array) -> Array:
    """Images as ``[n, channels, height, width]``; other shapes as they are.

    ``[n, height, width]`` gets a channel axis. ``[n, height, width, channels]`` is turned when its last axis is 1
    or 3 long and its second is not.

    >>> channels_first(np.zeros((5, 28, 28))).shape, channels_first(np.zeros((5, 32, 32, 3))).shape
    ((5, 1, 28, 28), (5, 3, 32, 32))
    """
    if inputs.ndim == 3:
        return inputs[:, None]
    if inputs.ndim == 4 and inputs.shape[3] in (1, 3) and inputs.shape[1] not in (1, 3):
        return np.ascontiguousarray(np.moveaxis(inputs, 3, 1))
    return inputs
