"""From what a user names (a built-in data set, a path, arrays, a torch data set) to a :class:`Sample`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bitcert.data.cifar import has_cifar, read_cifar
from bitcert.data.csv_file import open_csv
from bitcert.data.download import Progress, cached, download_openml
from bitcert.data.files import reading, refused, unreadable
from bitcert.data.folder import class_folders, read_image_folder
from bitcert.data.idx import PREFIXES, find_idx_pair, labels_beside, read_idx_pair
from bitcert.data.mapped import INPUTS, read_mapped, read_shards, shards_of
from bitcert.data.names import NAMES, NUM_CLASSES, canonical_name, describe_search, find_named, read_digits
from bitcert.data.npz import read_npz, read_npz_columns
from bitcert.data.parquet import open_parquet
from bitcert.data.sample import Array, Role, Sample
from bitcert.data.schema import Schema, Table
from bitcert.data.schema_file import SchemaSource, load_schema
from bitcert.data.table import Source, read_table
from bitcert.data.torch_data import sample_from_torch, to_numpy
from bitcert.errors import InputError, unknown_name

Loaded = tuple[Array, Array | None, int | None]
OPENERS = {".csv": open_csv, ".parquet": open_parquet}
"""What opens a table, by the end of the file's name."""


def load_sample(
    name_or_path: str | Path,
    role: Role,
    *,
    split: str = "train",
    num_classes: int | None = None,
    download: bool = False,
    progress: Progress | None = None,
    label: str | None = None,
    schema: SchemaSource = None,
    shape: Sequence[int] | None = None,
) -> Sample:
    """Load a built-in data set by name, or a file or folder by path.

    A built-in name wins over a path of the same spelling; write ``./mnist`` for the path. Paths: an ``.npz`` archive
    (``x``, ``y``), an IDX images file with its labels file beside it, a folder of IDX files, of CIFAR-10 binary
    batches, or of images (one subfolder a class, or ``train`` and ``test`` folders of such), or a table in a ``.csv``
    or ``.parquet`` file. Larger than memory may be a folder of ``x.npy`` and ``y.npy``, or of shards, all ``*.npz``,
    all ``*.tar`` or all ``*.parquet``.

    Args:
        name_or_path: ``digits``, ``mnist``, ``fashion-mnist``, ``cifar10``, or a path.
        role: what the sample is for.
        split: ``train`` or ``test``, where the source has both; a single file is one set, and is read whole.
        num_classes: by default what the source says, else the largest label plus one.
        download: fetch a built-in data set that is not on this machine from OpenML.
        progress: called with what is being done and the fraction done, while downloading.
        label: of a table, the name of the label's column.
        schema: of a table, what was declared of it (see :mod:`bitcert.data.schema`): a file or its content.
        shape: of one input; by default as it is stored, where three axes are taken for grey images. Sequences
            ``[n, steps, channels]`` need it, and so do pixels in the columns of a table.

    Raises:
        InputError: when nothing is found (saying where was looked), or it cannot be used or have that shape.

    >>> load_sample("digits", Role.TRAIN)
    Sample('digits', train, 1797 of 1x8x8 uint8, 10 classes)
    """
    if split not in PREFIXES:
        raise unknown_name("split", str(split), PREFIXES)
    text, role = str(name_or_path), Role(role)
    name = canonical_name(text) if isinstance(name_or_path, str) else None
    path = _existing(text) if name is None else None
    if path is not None and is_table(path):
        return _shaped(read_table(open_table(path), load_schema(schema).having(label), role, num_classes), shape)
    if label is not None or schema is not None:
        raise _not_a_table(text)
    if path is not None:
        # Only the last part of a path: a certificate is shown to strangers.
        title, (inputs, labels, classes) = Path(text).name, _load_path(path, split, role)
        names = read_npz_columns(path) if path.suffix == ".npz" and path.is_file() else ()
        # names are for people; an array of that name that is something else is left alone
        names = names if inputs.shape[1:] == (len(names),) else ()
    else:
        assert name is not None
        title = name if split == "train" else f"{name} ({split})"
        names, (inputs, labels, classes) = (), _load_named(name, split, download, progress)
    classes = classes if num_classes is None else num_classes
    return _shaped(Sample.from_arrays(inputs, labels, role, title, classes, columns=names), shape)


def _not_a_table(text: str) -> InputError:
    kinds = " or ".join(OPENERS)
    do = f"leave out label and schema, or name a {kinds} file"
    return InputError(f"a table in a {kinds} file for a label or schema", repr(text[:200]), do)


def shaped_like(sample: Sample, shape: tuple[int, ...]) -> Sample:
    """The sample with inputs of this shape, that of another sample of the source, where it can have it; else as is."""
    return _shaped(sample, shape) if _can_have(sample, shape) else sample


def _can_have(sample: Sample, shape: tuple[int, ...]) -> bool:
    """Whether the same numbers in their order are inputs of this shape without mixing axes up."""
    stored = sample.input_shape
    alike = [size for size in stored if size != 1] == [size for size in shape if size != 1]
    return (
        bool(shape)
        and min(shape) > 0
        and math.prod(stored) == math.prod(shape)
        and (alike or 1 in (len(stored), len(shape)))
    )


def _shaped(sample: Sample, shape: Sequence[int] | None) -> Sample:
    stored, wanted = sample.input_shape, sample.input_shape if shape is None else tuple(shape)
    if stored == wanted:
        return sample
    if not _can_have(sample, wanted):
        do = "give a shape with as many numbers: axes of length 1 may come and go, and flat inputs may be folded"
        raise InputError(f"inputs that can have shape {list(wanted)}", f"shape {list(stored)}", do)
    return replace(sample, inputs=sample.inputs.reshape(len(sample), *wanted), columns=())


def to_sample(
    source: object,
    role: Role,
    *,
    split: str = "train",
    num_classes: int | None = None,
    name: str | None = None,
    download: bool = False,
) -> Sample:
    """A sample from whatever holds data.

    Args:
        source: a :class:`Sample` (given the role), a name or path (see :func:`load_sample`), a pair ``(x, y)`` of
            arrays or tensors as they are (no axis is added or moved), or a torch ``Dataset`` or ``DataLoader``. For
            ``Role.UNLABELLED`` also inputs alone, as one array or tensor.
        role: what the sample is for.
        split: as in :func:`load_sample`.
        num_classes: by default inferred.
        name: for people.
        download: as in :func:`load_sample`.

    Raises:
        InputError: for anything else, and for data that cannot be used.

    >>> import numpy as np
    >>> to_sample((np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])), Role.TRAIN, name="toy")
    Sample('toy', train, 4 of 4 float32, 2 classes)
    """
    role = Role(role)
    if isinstance(source, Sample):
        changed = source if source.role is role else source.with_role(role)
        if num_classes in (None, source.num_classes) and name in (None, source.name):
            return changed
        return replace(changed, num_classes=num_classes or source.num_classes, name=name or source.name)
    if isinstance(source, str | Path):
        loaded = load_sample(source, role, split=split, num_classes=num_classes, download=download)
        return loaded if name is None else replace(loaded, name=name)
    if isinstance(source, tuple | list) and len(source) == 2:
        inputs, labels = (to_numpy(part) for part in source)
        return Sample.from_arrays(inputs, labels, role, name or "arrays", num_classes)
    if role is Role.UNLABELLED and hasattr(source, "__array__"):
        return Sample.from_arrays(to_numpy(source), None, role, name or "array", num_classes)
    return sample_from_torch(source, role, num_classes, name=name or type(source).__name__)


def _load_named(name: str, split: str, fetch: bool, progress: Progress | None) -> Loaded:
    if name == "digits":
        if split != "train":
            do = "use mnist, or split the 1,797 digits yourself before training"
            raise InputError("a split that digits has", "'test' (scikit-learn ships one set, which is 'train')", do)
        return *read_digits(), NUM_CLASSES
    found = find_named(name, split) or cached(name, split)
    if found is None and fetch:
        download_openml(name, progress)
        found = cached(name, split)
    if found is None:
        do = "set BITCERT_DATA to a folder that holds it, or pass --download (download=True) to fetch it from OpenML"
        raise InputError(f"the data set {name} ({split}) on this machine", describe_search(name, split), do)
    return *found, NUM_CLASSES


def _existing(text: str) -> Path:
    path = Path(text)
    if not text:
        raise InputError("a data file, folder or name", "an empty text", f"name one of {', '.join(NAMES)} or a path")
    try:
        if path.exists():
            return path
    except (OSError, ValueError) as error:
        raise unreadable(Path(repr(text[:100])), error) from error
    if "/" in text or "\\" in text or path.suffix:
        raise InputError(
            f"a data file or folder at {text}", "nothing there", f"check the path, or name one of {', '.join(NAMES)}"
        )
    raise unknown_name("data set", text, NAMES)


def is_table(path: Path) -> bool:
    """Whether the file is taken for a table, by the end of its name."""
    return path.suffix.lower() in OPENERS and not path.is_dir()


def schema_like(source: str | Path, table: Table | None) -> Schema | None:
    """What another file is read with into the inputs of a sample that was read from a table: ``None`` if it is none."""
    if table is None or Path(source).suffix.lower() not in OPENERS:
        return None
    return table.completed


def open_table(path: Path) -> Source:
    """An open table.

    Raises:
        InputError: it cannot be read.
    """
    return OPENERS[path.suffix.lower()](path)


def _load_path(path: Path, split: str, role: Role) -> Loaded:
    if path.is_dir():
        if (path / INPUTS).exists():
            return *read_mapped(path, role is not Role.UNLABELLED), None
        if shards := shards_of(path):
            return *read_shards(shards, role is not Role.UNLABELLED), None
        return _load_folder(path, split)
    with reading(path), open(path, "rb") as file:
        magic = file.read(4)
    if magic[:2] == b"PK" or path.suffix == ".npz":
        return *read_npz(path, need_labels=role is not Role.UNLABELLED), None
    if magic[:2] in (b"\x1f\x8b", b"\0\0"):
        return *read_idx_pair(path, labels_beside(path)), None
    raise refused(
        path,
        "an .npz archive, an IDX file or a table (.csv, .parquet)",
        f"a file that starts with {magic!r}",
        "convert it to .npz (x, y), or let its name end in .csv",
    )


def _load_folder(folder: Path, split: str) -> Loaded:
    if pair := find_idx_pair(folder, split):
        return *read_idx_pair(*pair), None
    if has_cifar(folder, split):
        return *read_cifar(folder, split), NUM_CLASSES
    other = "test" if split == "train" else "train"
    if find_idx_pair(folder, other) or has_cifar(folder, other):
        raise refused(folder, f"files of the split {split}", f"only {other}", "add them or ask for the other split")
    names = {each.name for each in class_folders(folder)}
    if names and names <= {"train", "test"}:
        if split not in names:
            raise refused(folder, f"a folder {split}", f"only {other}", "add it or ask for the other split")
        return read_image_folder(folder / split)
    if names:
        return read_image_folder(folder)
    do = "pass a folder of one of these kinds or an .npz file; pickled CIFAR-10 batches are never read"
    raise refused(folder, "IDX files, CIFAR-10 binary batches, or one subfolder of images a class", "none of them", do)
