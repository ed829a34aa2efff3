"""A sample: a finite set of examples, the role it plays in the proof, and a hash of its content.

The guarantee of a certificate (docs/theory.md section 2) is about examples drawn independently of everything the
decoder knows beforehand, so which data were used for what is part of the statement. ``Sample`` carries that role,
refuses data on which errors cannot be counted, and hashes its content so that a stranger can tell that it is the same
data.

Not guaranteed: that the examples are independent draws of one distribution. No program can see that; what
:func:`check_apart` sees is one example posing under two roles.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bitcert.data.schema import Table
from bitcert.errors import InputError, unknown_name

CHUNK_BYTES = 1 << 24
"""Working memory of the streamed checks and hashes, in bytes."""

_AT_ONCE = CHUNK_BYTES >> 21  # places of a mapped file: the system may read 2 MiB for each

MAX_CLASSES = 1 << 20
"""More are taken for labels that are not class numbers (a file of identifiers, a hostile file)."""

MAX_TOKEN = 1 << 24
"""Largest size of an integer input: float32 holds every integer up to it."""
Array = NDArray[np.generic]


class Role(StrEnum):
    """What a sample is for; two samples of different roles must be independent draws."""

    PRIOR = "prior"
    """Seen before the message is fixed: the helper string may depend on it in any way."""
    TRAIN = "train"
    """The errors and the sample size of the bound are counted on it."""
    UNLABELLED = "unlabelled"
    """Disagreements between the original and the compressed network are counted on it; labels are not used."""
    HOLDOUT = "holdout"
    """Never used for anything but the line that says what holding out would have told."""

    @classmethod
    def _missing_(cls, value: object) -> Role:
        raise unknown_name("role", str(value), [role.value for role in cls])


@dataclass(frozen=True, eq=False)
class Sample:
    """A finite labelled set of examples, checked at construction and read-only afterwards.

    Args:
        inputs: ``[n, ...]`` uint8, float32 or int32, images as ``[n, channels, height, width]``. float64 is rounded to
            float32 (the precision every network here runs in, and the one that is hashed), and float16 becomes
            float32. Other integers, such as tokens, become int32; they are at most 2^24 in size, up to which float32
            holds them exactly, so that whatever reads them as numbers sees the same.
        labels: ``[n]`` of any integer type, kept as int64, each in ``0 .. num_classes - 1``. For
            ``Role.UNLABELLED`` they may be ``None`` or empty, and are then kept as an array of length 0.
        num_classes: how many classes there are, at least 2; see :meth:`from_arrays` to infer it.
        classes_inferred: whether ``num_classes`` was read off the labels; a message must then say it.
        role: what the sample is for.
        name: for people; appears in reports and errors only.
        columns: names of the inputs of a table, for people, or none.
        table: how it was read from a table, or ``None``.

    Raises:
        InputError: for an empty set, lengths that differ, labels that are not integers or out of range, a single
            class, NaN or infinite values, and dtypes other than the above.

    >>> sample = Sample(np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1]), 2, Role.TRAIN, "toy")
    >>> len(sample), sample.input_shape, sample.labels.dtype.name
    (4, (4,), 'int64')
    """

    inputs: Array
    labels: NDArray[np.int64]
    num_classes: int
    role: Role
    name: str
    classes_inferred: bool = False
    columns: tuple[str, ...] = field(default=(), repr=False)
    table: Table | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        inputs = _checked_inputs(self.inputs, self.name)
        labels = _checked_labels(self.labels, len(inputs), Role(self.role), self.name)
        _check_classes(labels, self.num_classes, Role(self.role), self.name)
        object.__setattr__(self, "inputs", _read_only(inputs))
        object.__setattr__(self, "labels", _read_only(labels))
        object.__setattr__(self, "num_classes", int(self.num_classes))
        object.__setattr__(self, "role", Role(self.role))
        if self.columns and self.input_shape != (len(self.columns),):
            got = f"{len(self.columns)} for inputs of shape {list(self.input_shape)}"
            raise InputError(f"one name for each input of {self.name!r}", got, "leave the names out")

    @classmethod
    def from_arrays(
        cls,
        inputs: Array,
        labels: Array | None,
        role: Role,
        name: str,
        num_classes: int | None = None,
        *,
        columns: tuple[str, ...] = (),
        table: Table | None = None,
    ) -> Sample:
        """A sample whose ``num_classes``, if not given, is the largest label plus one.

        Args:
            inputs: as in :class:`Sample`, ``[n, ...]``.
            labels: as in :class:`Sample`, ``[n]``, or ``None`` for ``Role.UNLABELLED``.
            role: what the sample is for.
            name: for people.
            num_classes: required when there are no labels to infer it from.
            columns: as in :class:`Sample`.
            table: as in :class:`Sample`.

        Raises:
            InputError: as :class:`Sample`, and when the number of classes is neither given nor visible.

        >>> Sample.from_arrays(np.zeros((3, 2), np.uint8), np.array([0, 2, 1]), Role.TRAIN, "toy").num_classes
        3
        """
        inferred = num_classes is None
        if num_classes is None:
            known = np.empty(0) if labels is None else _as_array(labels, f"labels of {name!r}")
            if known.size == 0 and np.size(inputs):
                raise InputError(f"labels for {name!r}, or the number of classes", "neither", "pass num_classes")
            # Labels that are no integers are refused below with their own sentence; 2 only fills the place.
            num_classes = max(2, int(known.max()) + 1) if known.size and known.dtype.kind in "iu" else 2
        return cls(inputs, labels, num_classes, role, name, inferred, columns, table)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        data = f"{len(self)} of {shape} {self.inputs.dtype}"
        return f"Sample({self.name!r}, {self.role.value}, {data}, {self.num_classes} classes)"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, e.g. ``(1, 28, 28)``."""
        return tuple(self.inputs.shape[1:])

    @property
    def has_labels(self) -> bool:
        """Whether errors can be counted on it."""
        return len(self.labels) == len(self.inputs)

    @property
    def most_frequent_errors(self) -> float:
        """Rate of errors, in [0, 1], of always naming the most frequent class of these labels."""
        return 1 - int(np.bincount(self.labels).max()) / len(self)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) of the data alone: role, name and ``num_classes`` do not matter.

        The hashed bytes are, in this order: the ASCII line ``bitcert sample 1``, the ASCII line
        ``inputs DTYPE N D1 D2 ...`` (dtype ``uint8``, ``float32`` or ``int32``), the inputs in C order, little-endian,
        the ASCII line ``labels int64 N``, the labels as little-endian int64. Each line ends with one newline byte.
        """
        digest = hashlib.sha256(b"bitcert sample 1\n")
        _update(digest, "inputs", self.inputs)
        _update(digest, "labels", self.labels)
        return digest.hexdigest()

    @cached_property
    def examples_hash(self) -> str:
        """SHA-256 (hex) of the set of inputs as numbers: without labels, order, repetitions and type."""
        hashes = sorted(set(self._hash_examples(np.dtype(np.float32)).tolist()))
        return hashlib.sha256(b"bitcert examples 1\n" + b"".join(hashes)).hexdigest()

    @cached_property
    def example_hashes(self) -> NDArray[np.void]:
        """128-bit BLAKE2b hash of every single input, ``[n]``; equal inputs hash alike, labels do not matter."""
        return self._hash_examples(self.inputs.dtype)

    def _hash_examples(self, dtype: np.dtype[np.generic]) -> NDArray[np.void]:
        """Hashes of the inputs as numbers of another type, ``[n]``."""
        start = hashlib.blake2b(f"{dtype.name} {self.input_shape}\n".encode(), digest_size=16)
        digests = bytearray()
        for chunk in _chunks(self.inputs):
            rows = _little_endian(chunk.astype(dtype, copy=False)).reshape(len(chunk), -1)
            values = (rows + dtype.type(0) if dtype.kind == "f" else rows).tobytes()  # -0 and 0 are one
            size = len(values) // len(rows)
            for place in range(0, len(values), size):
                digest = start.copy()
                digest.update(values[place : place + size])
                digests += digest.digest()
        return np.frombuffer(bytes(digests), dtype="V16")

    def batches(
        self, batch_size: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[Array, NDArray[np.int64]]]:
        """Yield ``(inputs, labels)`` in order as read-only views; the last batch may be shorter.

        Args:
            batch_size: examples a batch, at least 1.
            start: the first example.
            stop: the one after the last; by default all.

        Raises:
            InputError: for a batch size below 1.
        """
        if batch_size < 1:
            raise InputError("a batch size of at least 1", str(batch_size), "pass a positive number")
        stop = len(self) if stop is None else min(stop, len(self))
        for first in range(start, stop, batch_size):
            last = min(first + batch_size, stop)
            yield self.inputs[first:last], self.labels[first:last]
            release(self.inputs)

    def inputs_at(self, index: Array) -> Array:
        """Copies of the inputs at these places ``[k]``, in their order; of a mapped file, few pages at a time."""
        if _map_of(self.inputs) is None:
            return self.inputs[index]
        places = np.arange(len(self))[index]
        if places.ndim != 1:
            return self.inputs[index]
        found = np.empty((len(places), *self.input_shape), self.inputs.dtype)
        for start in range(0, len(places), _AT_ONCE):
            found[start : start + _AT_ONCE] = self.inputs[places[start : start + _AT_ONCE]]
            release(self.inputs)
        return found

    def with_role(self, role: Role) -> Sample:
        """The same data in another role; its hashes do not change (and are not computed again)."""
        other = replace(self, role=role)
        if len(other.labels) == len(self.labels):
            other.__dict__.update(
                {key: value for key, value in self.__dict__.items() if key.endswith(("_hash", "_hashes"))}
            )
        return other

    def as_floats(self) -> Sample:
        """The sample with its inputs as float32: examples of equal numbers are then equal, whatever type they had."""
        return self if self.inputs.dtype == np.float32 else replace(self, inputs=self.inputs.astype(np.float32))

    def take(self, index: slice | Sequence[int] | Array, name: str | None = None) -> Sample:
        """The examples at ``index`` (a view for a slice), with the same role and number of classes.

        Args:
            index: a slice, indices, or a boolean mask of length ``n``.
            name: of the new sample; by default this one's name with ``[part]``.

        Raises:
            InputError: for an index out of range and whatever :class:`Sample` refuses (e.g. nothing left).
        """
        where = index if isinstance(index, slice) else np.asarray(index)
        if isinstance(where, np.ndarray) and where.size == 0:
            where = where.astype(np.int64)
        try:
            inputs = self.inputs[where] if isinstance(where, slice) else self.inputs_at(where)
            labels = self.labels[where] if self.has_labels else self.labels
        except IndexError as error:
            raise InputError(
                f"indices into the {len(self)} examples of {self.name!r}", str(error), "correct them"
            ) from None
        same = self.classes_inferred, self.columns, self.table
        return Sample(inputs, labels, self.num_classes, self.role, name or f"{self.name}[part]", *same)


def _update(digest: hashlib._Hash, title: str, array: Array) -> None:
    shape = " ".join(map(str, array.shape))
    digest.update(f"{title} {array.dtype.name} {shape}\n".encode())
    for chunk in _chunks(array):
        digest.update(_little_endian(chunk).data)


def _little_endian(array: Array) -> Array:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def _chunks(array: Array) -> Iterator[Array]:
    return (chunk for _, chunk in _numbered_chunks(array))


def _numbered_chunks(array: Array) -> Iterator[tuple[int, Array]]:
    rows = max(1, CHUNK_BYTES // max(1, array.nbytes // max(1, len(array))))
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]
        release(array)


def _map_of(array: Array) -> mmap.mmap | None:
    """The file that an array shows; none for a copy-on-write map: what was written there is in memory only."""
    base: object = array
    mode = "c"
    while isinstance(base, np.ndarray):
        mode = base.mode if isinstance(base, np.memmap) else mode
        base = base.base
    return base if mode != "c" and isinstance(base, mmap.mmap) and hasattr(base, "madvise") else None


def release(array: Array) -> None:
    """Give back what was read of a memory-mapped file; nothing for other arrays. It can be read again."""
    mapped = _map_of(array)
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _checked_inputs(inputs: object, name: str) -> Array:
    array = _as_array(inputs, f"inputs of {name!r}")
    if array.size == 0 and array.ndim:
        raise InputError(f"at least one example in {name!r}", "an empty set", "pass data with examples")
    if array.ndim < 2:
        raise InputError(f"inputs of {name!r} with shape [n, ...]", f"shape {list(array.shape)}", "add a feature axis")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype in (np.dtype(np.float64), np.dtype(np.float16)):
        with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused below
            array = array.astype(np.float32)
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        array = _checked_tokens(array, name)
    if array.dtype not in (np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.int32)):
        got = f"dtype {array.dtype}"
        raise InputError(f"inputs of {name!r} that are integers or float32", got, "convert them first")
    _check_finite(array, name)
    return array


def _checked_tokens(array: Array, name: str) -> Array:
    for start, chunk in _numbered_chunks(array):
        largest = max(int(chunk.max()), -int(chunk.min()))
        if largest > MAX_TOKEN:
            expected = f"integers of at most {MAX_TOKEN:,} in {name!r}, which float32 holds exactly"
            got = f"one of size {largest:,} in the examples from {start} on"
            raise InputError(expected, got, "number the tokens from 0, or convert the inputs to float32")
    return array.astype(np.int32, copy=False)


def _as_array(values: object, what: str) -> Array:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} as one array", f"{type(error).__name__}: {error}", "pass numpy arrays") from None


def _check_finite(array: Array, name: str) -> None:
    if array.dtype.kind != "f":
        return
    for start, chunk in _numbered_chunks(array):
        bad = ~np.isfinite(chunk)
        if bad.any():
            row = int(np.argmax(bad.reshape(len(chunk), -1).any(axis=1)))
            value = chunk[row][bad[row]].flat[0]
            raise InputError(f"finite inputs in {name!r}", f"{value} in example {start + row}", "clean the data")


def _checked_labels(labels: object, num_inputs: int, role: Role, name: str) -> NDArray[np.int64]:
    if labels is None:
        labels = np.empty(0, np.int64)
    array = _as_array(labels, f"labels of {name!r}")
    if role is Role.UNLABELLED and array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or len(array) != num_inputs:
        got = f"labels of shape {list(array.shape)} for {num_inputs} inputs"
        raise InputError(f"one label for every input of {name!r}", got, "pass a vector of class numbers of that length")
    if array.dtype.kind not in "iu":
        raise InputError(f"integer labels in {name!r}", f"dtype {array.dtype}", "number the classes from 0")
    if array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"labels of {name!r} that fit 64 bits", f"label {array.max()}", "number the classes from 0")
    return array.astype(np.int64, copy=False)


def _check_classes(labels: NDArray[np.int64], num_classes: object, role: Role, name: str) -> None:
    if isinstance(num_classes, bool) or not isinstance(num_classes, int | np.integer) or num_classes < 2:
        raise InputError(f"at least 2 classes in {name!r}", f"{num_classes!r}", "pass num_classes of 2 or more")
    if num_classes > MAX_CLASSES:
        expected = f"at most {MAX_CLASSES} classes in {name!r}"
        raise InputError(expected, str(num_classes), "number the classes 0, 1, 2, ... without gaps")
    if len(labels) == 0:
        return
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(outside):
        got = f"label {labels[outside[0]]} at index {outside[0]}"
        expected = f"labels of {name!r} between 0 and {num_classes - 1}"
        raise InputError(expected, got, "number the classes from 0 or pass the right number of classes")
    if role is not Role.UNLABELLED and (labels == labels[0]).all():
        got = f"label {labels[0]} on all {len(labels)} examples"
        raise InputError(
            f"examples of at least two classes in {name!r}", got, "pass data that were not filtered or sorted"
        )
