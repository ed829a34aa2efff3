"""What every reader of data files shares: the size bound and the sentence for a file that cannot be read.

Data files are treated as hostile: no reader allocates what a header declares before the declared size has been
compared with the bound below and with what a file of that length can hold. Not guaranteed: that the content is what
its name says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitcert.data.sample import Array
from bitcert.errors import InputError

MAX_BYTES = 16 << 30
"""No reader allocates more than this for one array, in bytes (16 GiB)."""

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


def check_size(path: Path, declared_bytes: int, available_bytes: int) -> None:
    """Refuse a declared array size that is beyond the bound or that ``available_bytes`` of file cannot hold.

    Raises:
        InputError: naming the file and both sizes.
    """
    if declared_bytes > MAX_BYTES:
        raise refused(path, f"arrays of at most {MAX_BYTES} bytes", f"a declared size of {declared_bytes} bytes")
    if declared_bytes > available_bytes:
        got = f"{declared_bytes} declared where the file holds at most {available_bytes}"
        raise refused(path, "as many bytes as the header declares", got)


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
