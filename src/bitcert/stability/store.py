"""Per-example arrays on disk, shard by shard, so that memory stays flat in the number of examples.

A shard is an index range ``[start, stop)`` of the sample with one array ``[stop - start, ...]`` for every quantity.
Shards are joined by concatenation, so quantiles of the whole sample are exact and do not depend on the sharding. Files
are numpy's uncompressed ``.npz`` (no pickle), written under another name and renamed, so that a killed run leaves whole
shards only. A file that is truncated, damaged or of another run (``identity``) is as good as absent. It does NOT
protect from someone who writes false numbers under the right identity.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitcert.errors import InputError
from bitcert.locking import replacing

COLUMN_BYTES = 1 << 24
"""Memory for the columns that are read at a time."""

_IDENTITY = "identity"
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)\{'descr': '(?P<dtype><f4|<f8|<U64)', 'fortran_order': False, "
    rb"'shape': \((?P<shape>(?:\d{1,15},? ?){0,8})\), \} *\n",
    re.DOTALL,
)
"""Of an ``.npy`` file of floats in C order, or of an identity (64 characters)."""

Values = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class ShardStore:
    """The shards of one run in a folder.

    Args:
        folder: made when the first shard is written.
        identity: hexadecimal hash of everything that determines the numbers.
        num_samples: size of the whole sample.
        shard_size: examples a shard; the last may be smaller.
    """

    folder: Path
    identity: str
    num_samples: int
    shard_size: int

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """``(start, stop)`` of every shard."""
        starts = range(0, self.num_samples, self.shard_size)
        return tuple((start, min(start + self.shard_size, self.num_samples)) for start in starts)

    def path(self, start: int, stop: int) -> Path:
        """File of a shard; the name begins the identity so that several runs can share a folder."""
        return self.folder / f"shard-{self.identity[:16]}-{start:010d}-{stop:010d}.npz"

    def write(self, start: int, stop: int, arrays: Mapping[str, Values]) -> None:
        """Write a shard, arrays ``[stop - start, ...]`` by name, in one step as far as a reader can tell.

        Raises:
            InputError: when the folder cannot be written to or the disk is full.
        """
        path = self.path(start, stop)
        content = {name: np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for name, array in arrays.items()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial, open(partial, "wb") as file:
                np.savez(file, allow_pickle=False, **{_IDENTITY: np.array(self.identity)}, **content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            got = f"{error.strerror or error} at {self.folder}"
            raise InputError("a folder that finished shards can be written to", got, "choose another folder") from error

    def read(self, start: int, stop: int) -> dict[str, Values] | None:
        """The shard's arrays, or ``None`` when there is no file of this run that can be read whole."""
        try:
            with zipfile.ZipFile(self.path(start, stop)) as file:
                names = [name.removesuffix(".npy") for name in file.namelist()]
                if str(_parsed(file, _IDENTITY)[()]) != self.identity or len(set(names)) != len(names):
                    return None
                arrays = {name: _array(file, name) for name in names if name != _IDENTITY}
                return arrays if all(array.shape[:1] == (stop - start,) for array in arrays.values()) else None
        except (OSError, zipfile.BadZipFile, ValueError, KeyError, EOFError, MemoryError):
            return None
        except (NotImplementedError, RuntimeError):  # zipfile: an unknown compression, an encrypted member
            return None

    def finished(self, start: int, stop: int) -> bool:
        """Whether this shard has been written whole."""
        return self.read(start, stop) is not None

    def names(self) -> tuple[str, ...]:
        """The stored quantities."""
        return tuple(sorted(self.read(*self.ranges[0]) or ()))

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of one example's value of a quantity, or ``None`` when it was not measured."""
        with zipfile.ZipFile(self.path(*self.ranges[0])) as file:
            return _array(file, name).shape[1:] if f"{name}.npy" in file.namelist() else None

    def columns(self, name: str) -> Iterator[Values]:
        """The columns ``[n]`` of a quantity of shape ``[n, ...]``, flattened in C order, a few at a time in memory.

        Raises:
            InputError: when a shard that was there has gone or been damaged meanwhile.
        """
        shape = self.shape(name)
        total = math.prod(shape) if shape is not None else 0
        step = max(1, COLUMN_BYTES // (8 * max(1, self.num_samples)))
        for first in range(0, total, step):
            blocks = [self._block(name, span, first, min(first + step, total)) for span in self.ranges]
            together = np.concatenate(blocks, axis=1)
            yield from together

    def array(self, name: str) -> Values:
        """A quantity of the whole sample, ``[n, ...]``, in memory."""
        return np.concatenate([self._member(name, span) for span in self.ranges])

    def _block(self, name: str, span: tuple[int, int], first: int, last: int) -> Values:
        array = self._member(name, span)
        return np.ascontiguousarray(array.reshape(len(array), -1)[:, first:last].T)

    def _member(self, name: str, span: tuple[int, int]) -> Values:
        try:
            with zipfile.ZipFile(self.path(*span)) as file:
                return _array(file, name)
        except (OSError, zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
            got = f"{self.path(*span).name} gone or damaged"
            raise InputError("the shards just written", got, "run it again: finished shards are kept") from error


def _parsed(file: zipfile.ZipFile, name: str) -> NDArray[np.generic]:
    """An ``.npy`` file as written here; numpy's own reader would allocate whatever a header claims."""
    info = file.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError("a compressed member")  # ours never are; a small file could unfold to any size
    content = file.read(info)  # checks the member's CRC
    match = _HEADER.match(content)
    if match is None:
        raise ValueError("an .npy header that was never written")
    dtype = np.dtype(match["dtype"].decode())
    shape = tuple(int(size) for size in match["shape"].split(b",") if size.strip())
    count, start = math.prod(shape), 10 + int.from_bytes(match["length"], "little")
    if match.end() != start or count * dtype.itemsize != len(content) - start:
        raise ValueError("an array whose header does not fit its data")
    return np.frombuffer(content, dtype, count, start).reshape(shape)


def _array(file: zipfile.ZipFile, name: str) -> Values:
    array = _parsed(file, name)
    if array.dtype.kind != "f":
        raise ValueError("an array that is not of floats")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
