"""The binary version of CIFAR-10: records of one label byte and 3 x 32 x 32 pixel bytes, channel by channel.

Format (A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009; the data page). The Python
version of the same data is a pickle, which can run code when opened, and is never read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitcert.data.files import check_size, reading, refused
from bitcert.data.sample import Array

SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32
FILES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}


def has_cifar(folder: Path, split: str) -> bool:
    """Whether ``folder`` holds any of the files of ``split`` (``train`` or ``test``)."""
    return any((folder / name).is_file() for name in FILES[split])


def read_cifar(folder: Path, split: str) -> tuple[Array, Array]:
    """Images ``[n, 3, 32, 32]`` uint8 and labels ``[n]`` of the five training batches or the test batch.

    Raises:
        InputError: naming the file that is missing, unreadable, or not made of whole records.
    """
    batches = [_read_batch(folder / name) for name in FILES[split]]
    records = np.concatenate(batches)
    # A copy drops the label bytes, so that the images are contiguous.
    return np.ascontiguousarray(records[:, 1:]).reshape(-1, *SHAPE), records[:, 0]


def _read_batch(path: Path) -> Array:
    with reading(path):
        size = path.stat().st_size
        check_size(path, size, size, size)
        data = np.fromfile(path, np.uint8)
    if len(data) == 0 or len(data) % RECORD_BYTES:
        raise refused(path, f"whole records of {RECORD_BYTES} bytes", f"{len(data)} bytes")
    return data.reshape(-1, RECORD_BYTES)
